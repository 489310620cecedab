"""What is fitted after training, on images that the net was not trained on."""
