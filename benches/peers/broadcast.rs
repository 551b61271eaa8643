//! The smallest fan-out with tokio: each line of stdin goes into a broadcast channel, and a task per client writes it.

use std::io::BufRead;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Messages that a client may be behind before it misses some.
const BACKLOG: usize = 4096;

pub fn serve(port: u16) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let sender = Sender::<Utf8Bytes>::new(BACKLOG);
    let clients = sender.clone();
    runtime.spawn(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(tell(socket, clients.subscribe()));
        }
    });
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        // An error only says that nobody is connected.
        let _ = sender.send(line.into());
    }
}

async fn tell(socket: TcpStream, mut lines: Receiver<Utf8Bytes>) {
    let Ok(()) = socket.set_nodelay(true) else { return };
    let Ok(stream) = accept_async(socket).await else { return };
    let (mut sink, mut source) = stream.split();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Ok(line) => if sink.send(Message::Text(line)).await.is_err() { return },
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            message = source.next() => if !matches!(message, Some(Ok(_))) { return },
        }
    }
}
