"""What is measured in a chest CT, and a report of it in words: each number is measured, or said not to be."""
