"""What every operator rests on: checks of arguments, registration with PyTorch, calls of the native core."""
