"""Every score of a network, an exported file or a folder of masks."""
