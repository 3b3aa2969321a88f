"""What the network of lesion inpainting does not do by itself, one law a file."""
