//! What two processes say to each other during a hand-over: lines of JSON, of which the first carries the sockets.
//!
//! The two may be of different versions: members that a reader does not know are passed over.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::access::end_row::EndRow;

/// 17 listeners, of which a unix socket has 107 bytes, and a lock are far less.
pub(super) const LINE_BYTES_MAX: usize = 16 << 10;
/// Listeners and a lock.
const FILES_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum HandoverMessage {
    /// From the predecessor, with the files of the listeners in this order, and then the lock.
    Sockets {
        listeners: Vec<SentListener>,
        /// The last file is the lock of the directory of spools.
        has_spool_lock: bool,
    },
    /// The successor needs the feed and the archive for itself.
    Release,
    /// It can have them.
    Released,
    /// The successor works, and connects to the feed.
    Started,
    /// The successor can serve. `has_data`: the feed has brought something, or has nothing to bring without clients.
    Ready { has_data: bool },
    /// It serves from now on.
    Go,
    /// A session of the predecessor has ended.
    End { row: Box<EndRow> },
}

/// A listener of the predecessor, whose socket is among the files.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SentListener {
    /// As the predecessor was asked to listen.
    pub address: String,
    /// Of a unix socket: its file is removed by the process that goes on, and not by a service manager.
    pub removes_file: bool,
}

impl HandoverMessage {
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("it has string keys and no failing parts");
        line.push(b'\n');
        line
    }

    /// # Errors
    /// It is no message that this version knows.
    pub(super) fn read(line: &[u8]) -> io::Result<HandoverMessage> {
        serde_json::from_slice(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Sends a message together with files.
pub(super) fn send_with(stream: &UnixStream, message: &HandoverMessage, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = message.line();
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(files).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if files.len() > FILES_MAX || !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other(format!("expected at most {FILES_MAX} files, found {}", files.len())));
    }
    let sent = sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(line.get(sent..).unwrap_or_default())
}

/// The first message, and its files. Waits for it, up to the timeout of the stream.
pub(super) fn receive_with(stream: &UnixStream) -> io::Result<(HandoverMessage, Vec<OwnedFd>)> {
    let (mut line, mut files) = (Vec::new(), Vec::new());
    let mut part = [0; 4096];
    while line.last() != Some(&b'\n') {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(stream, &mut [IoSliceMut::new(&mut part)], &mut control, RecvFlags::empty())?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&part[..received.bytes]);
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
    }
    for file in &files {
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((HandoverMessage::read(&line)?, files))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_arrive_with_their_message_and_are_for_one_process_alone() {
        let (one, other) = UnixStream::pair().expect("sockets");
        let file = File::open("/dev/null").expect("it is there");
        let sent = |address: String| SentListener { address, removes_file: true };
        let listeners = vec![sent("127.0.0.1:8080".into()), sent(format!("unix:/{}", "a".repeat(5000)))];
        let message = HandoverMessage::Sockets { listeners, has_spool_lock: false };
        send_with(&one, &message, &[file.as_fd(), one.as_fd()]).expect("room");
        let (received, files) = receive_with(&other).expect("it is there");
        assert_eq!((received, files.len()), (message, 2));
        for file in &files {
            let flags = rustix::io::fcntl_getfd(file).expect("open");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        drop((one, files));
        assert_eq!(receive_with(&other).expect_err("the end").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn members_of_a_later_version_are_passed_over_and_words_of_one_are_refused() {
        let known = HandoverMessage::read(br#"{"say":"ready","has_data":true,"mood":"good"}"#).expect("known");
        assert_eq!(known, HandoverMessage::Ready { has_data: true });
        for line in [&b"{\"say\":\"sing\"}\n"[..], b"", b"\xff\n", b"[]\n"] {
            assert!(HandoverMessage::read(line).is_err());
        }
    }
}
