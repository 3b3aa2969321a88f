"""What is measured of models of lesion inpainting beside what all lesion models are measured by."""
