"""Where a restored dataset is written: the socket for targets, and those that are built in."""
