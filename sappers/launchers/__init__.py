"""Start and stop guests.

QemuLauncher(...)          implements ports.Launcher with one QEMU a guest
detect_accelerator()       how guests run on this host, and why
"""
