"""Stands in for bitsandbytes, whose 8-bit AdamW runs on GPUs alone: its interface, with moments in 32 bits, as it keeps
those of small tensors itself, and plain tensors alone."""
