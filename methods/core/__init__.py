"""What the methods share: quantizers, range estimation, operands, families of models."""
