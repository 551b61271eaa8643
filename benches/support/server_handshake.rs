//! The server's side of a handshake, step by step, up to the moment at which the record layer takes over.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;

/// Takes what has come, and appends what is to be sent. True once the handshake is over.
pub fn advance(
    server: &mut UnbufferedServerConnection,
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Result<bool, rustls::Error> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let status = server.process_tls_records(incoming);
        let discard = status.discard;
        let done = match status.state? {
            ConnectionState::EncodeTlsData(mut data) => {
                let length = data.encode(&mut buffer).expect("room");
                outgoing.extend_from_slice(&buffer[..length]);
                None
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                None
            }
            ConnectionState::BlockedHandshake => Some(false),
            ConnectionState::WriteTraffic(_) => Some(true),
            other => panic!("unexpected {other:?}"),
        };
        incoming.drain(..discard);
        if let Some(done) = done {
            return Ok(done);
        }
    }
}
