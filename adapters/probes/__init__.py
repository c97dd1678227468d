"""Trial forwards that find out if a network mixes images, what lessons can change and how much memory they take."""
