"""Model cards, written from the files that a training and a conversion left."""
