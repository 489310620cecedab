"""Score exported files on folders of images."""
