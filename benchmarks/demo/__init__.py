"""`make demo`: three hospitals train one model on this machine, through every real part."""
