//! The usual broadcast server: axum's WebSocket, a tokio broadcast channel, and one or two tasks for each client.

use std::io::BufRead;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

/// Messages that a client may be behind before it misses some.
const BACKLOG: usize = 4096;
/// Instead of tungstenite's 128 KiB.
const SMALL_BUFFER_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// One task for each client, which waits for messages and for the client.
    OneTask,
    /// A task that writes and one that reads, as in axum's chat example.
    TwoTasks,
    TwoTasksSmallBuffers,
}

#[derive(Clone)]
struct Chat {
    lines: Sender<Utf8Bytes>,
    variant: Variant,
}

pub fn serve(port: u16, variant: Variant) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let lines = Sender::new(BACKLOG);
    let chat = Chat { lines: lines.clone(), variant };
    runtime.spawn(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("a TCP socket"));
        let app = Router::new().route("/any", any(upgrade)).with_state(chat);
        axum::serve(listener, app).await.expect("it serves forever");
    });
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        // An error only means that no client is connected.
        let _ = lines.send(line.into());
    }
}

async fn upgrade(upgrade: WebSocketUpgrade, State(chat): State<Chat>) -> Response {
    let lines = chat.lines.subscribe();
    match chat.variant {
        Variant::OneTask => upgrade.on_upgrade(move |socket| one_task(socket, lines)),
        Variant::TwoTasks => upgrade.on_upgrade(move |socket| two_tasks(socket, lines)),
        Variant::TwoTasksSmallBuffers => upgrade
            .read_buffer_size(SMALL_BUFFER_BYTES)
            .write_buffer_size(0)
            .on_upgrade(move |socket| two_tasks(socket, lines)),
    }
}

async fn one_task(mut socket: WebSocket, mut lines: Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Ok(line) => if socket.send(Message::Text(line)).await.is_err() { return },
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            message = socket.recv() => if !matches!(message, Some(Ok(_))) { return },
        }
    }
}

async fn two_tasks(socket: WebSocket, mut lines: Receiver<Utf8Bytes>) {
    let (mut sink, mut source) = socket.split();
    let mut writing = tokio::spawn(async move {
        loop {
            match lines.recv().await {
                Ok(line) => {
                    if sink.send(Message::Text(line)).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    let mut reading = tokio::spawn(async move { while let Some(Ok(_)) = source.next().await {} });
    tokio::select! {
        _ = &mut writing => reading.abort(),
        _ = &mut reading => writing.abort(),
    }
}
