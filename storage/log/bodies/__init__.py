"""What each kind of log record says, as typed values that know their JSON."""
