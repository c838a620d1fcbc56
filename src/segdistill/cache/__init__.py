"""A teacher's outputs, made once and kept on disk; knows torch and files, neither Hydra nor Lightning."""
