"""Tumours in liver, kidney, spleen, muscle and fat: lesion inpainting, told its density by a drawn plan."""
