# Boots the disk that the builder made, installs the agent over SSH, and hands out the root without
# what belongs to one machine: the builder makes a new disk of it. Read by Packer 1.6.6 and newer:
# therefore no `packer` block here; what newer ones need stands in plugins/, which only they get.

variable "disk" {
  type        = string
  description = "Raw disk to begin with; it is copied."
}

variable "output" {
  type        = string
  description = "Folder of the disk that was booted; Packer makes it, and nobody needs it."
}

variable "root" {
  type        = string
  description = "File that gets the root in the end, as a tar."
}

variable "agent" {
  type        = string
  description = "The agent's bundle (PEX)."
}

variable "version" {
  type        = string
  description = "Folder below /opt/sappers that the agent goes to."
}

variable "unit" {
  type        = string
  description = "The agent's systemd unit."
}

variable "unpack" {
  type        = string
  description = "Script that unpacks the bundle: PYTHON BUNDLE FOLDER."
}

variable "key" {
  type        = string
  description = "Private SSH key for this build alone."
}

variable "credential" {
  type        = string
  description = "Its public half, base64, for systemd to put into root's authorized_keys."
}

variable "accelerator" {
  type    = string
  default = "tcg"
}

variable "memory_mib" {
  type    = string
  default = "1024"
}

source "qemu" "appliance" {
  disk_image       = true
  iso_url          = var.disk
  iso_checksum     = "none"
  format           = "raw"
  skip_resize_disk = true
  skip_compaction  = true
  output_directory = var.output
  vm_name          = "disk.raw"

  accelerator    = var.accelerator
  machine_type   = "q35"
  memory         = var.memory_mib
  cpus           = 2
  disk_interface = "virtio"
  net_device     = "virtio-net"
  headless       = true
  disable_vnc    = true
  boot_wait      = "1ms" # "0s" would mean ten seconds

  communicator         = "ssh"
  ssh_username         = "root"
  ssh_private_key_file = var.key
  ssh_timeout          = "10m"
  shutdown_command     = "systemctl poweroff --force"
  shutdown_timeout     = "5m"

  qemuargs = [
    ["-display", "none"],
    ["-serial", "file:serial.log"],
    ["-cpu", "max"],
    # The forwarded port on loopback alone, and no way out for the guest.
    ["-netdev", "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    # Named here, devices of Packer's own are left out: the network's is one of them.
    ["-device", "virtio-net,netdev=user.0"],
    # A port and no second disk: a PC's firmware might boot from that.
    ["-device", "virtio-serial"],
    ["-device", "virtserialport,chardev=root,name=root"],
    ["-chardev", "file,id=root,path=${var.root}"],
    ["-smbios", "type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root=${var.credential}"],
  ]
}

build {
  sources = ["source.qemu.appliance"]

  provisioner "file" {
    source      = var.agent
    destination = "/var/tmp/agent.pex"
  }

  provisioner "file" {
    source      = var.unit
    destination = "/etc/systemd/system/sappers.service"
  }

  provisioner "file" {
    source      = var.unpack
    destination = "/var/tmp/unpack"
  }

  provisioner "shell" {
    environment_vars = ["VERSION=${var.version}"]
    scripts          = ["provision/agent.sh", "provision/seal.sh"]
  }
}
