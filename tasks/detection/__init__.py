"""The parts of the COCO task: annotations, evidence and scores, inference, published models."""
