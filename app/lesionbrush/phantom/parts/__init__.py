"""How the chest phantom is drawn: surfaces, then organs, bones and lungs, then the scanner.

All of it works in the millimetres of one average adult: x to the patient's left, y to the back, both 0 in the
middle of the chest, z up from the lowest slice to 256. Distances are signed: negative inside.
"""
