"""The parts of the ADE20K task: label maps, batches, pixel counts and scores, and what its editions share."""
