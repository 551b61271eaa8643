//! For tests: an address that loses every packet, like a machine that is gone.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// An address at which nothing ever answers: its queue is full, so that an attempt is not even refused.
pub(super) struct Dead {
    pub address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl Dead {
    pub(super) fn open() -> Dead {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        let queue = |_| {
            let guest = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            guest.set_nonblocking(true).expect("an option");
            // The kernel decides whether it gets into the queue.
            guest.connect(&address.into()).ok();
            guest
        };
        Dead { address, _listener: listener, _queued: (0..4).map(queue).collect() }
    }
}
