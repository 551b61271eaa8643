"""What a client decides, without sockets and without a clock: time comes in as an argument, actions go out as values."""
