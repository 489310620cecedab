"""Folder of images and masks -> checked, split and augmented samples."""
