"""Small networks, one file each."""
