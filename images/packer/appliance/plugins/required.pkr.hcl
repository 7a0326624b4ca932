# Packer 1.7 and newer take the qemu builder from a plugin: `packer plugins install` brings it.
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
  }
}
