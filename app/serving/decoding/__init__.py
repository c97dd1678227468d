"""From the bytes of images to one tensor: in threads, or in processes that can be killed."""
