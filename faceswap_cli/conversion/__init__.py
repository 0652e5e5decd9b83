"""From the faces in a frame to the frame with other faces: the core that every swap shares."""
