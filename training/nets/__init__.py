"""Architectures: the U-Net with the skip dial, and smp's."""
