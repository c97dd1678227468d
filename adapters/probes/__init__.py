"""Trial forwards that tell whether a network mixes images, what lessons reach and how much memory they take."""
