//! The records of RFC 8448 section 3, a simple 1-RTT handshake, made and opened from the secrets of its trace.

use std::io::{self, ErrorKind};

use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use tls_record::RECORD_MAX;
use tls_record::alert::AlertDescription;
use tls_record::keys::{Cipher, KeySchedule, TlsVersion, TrafficKey};
use tls_record::receiver::{ReceiveError, RecordReceiver};
use tls_record::sender::{RECORDS_PER_KEY, RecordSender};

/// `client_application_traffic_secret_0`.
const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5";
/// `server_application_traffic_secret_0`.
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643";
const CLIENT_DATA: &str = "1703030043 a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5
    b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "1703030043 2e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d
    90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
const CLIENT_ALERT: &str = "1703030013 c9872760655666b74d7ff1153efd6db6d0b0e3";
const SERVER_ALERT: &str = "1703030013 b58fd67166ebf599d24720cfbe7efa7a8864a9";

/// Numbers of the data records: the server has sent its ticket with the same key before.
const CLIENT_SEQUENCE: u64 = 0;
const SERVER_SEQUENCE: u64 = 1;

/// The content of either side's data.
fn data() -> Vec<u8> {
    (0..50).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label without a context (RFC 8446 section 7.1).
fn expanded<const N: usize>(secret: &str, label: &str) -> [u8; N] {
    let label = format!("tls13 {label}");
    let lengths = [0, N as u8, label.len() as u8];
    let mut out = [0; N];
    let secret = Prk::new_less_safe(HKDF_SHA256, &bytes(secret));
    let info = [&lengths[..], label.as_bytes(), &[0]];
    secret.expand(&info, Length(N)).and_then(|okm| okm.fill(&mut out)).expect("a short length");
    out
}

fn key(secret: &str) -> TrafficKey {
    let (key, iv) = (expanded::<16>(secret, "key"), expanded::<12>(secret, "iv"));
    TrafficKey::new(TlsVersion::Tls13, Cipher::Aes128Gcm, &key, iv).expect("16 bytes")
}

/// The trace has one key for each direction.
struct NoFurtherKeys;

impl KeySchedule for NoFurtherKeys {
    fn next_sealing(&mut self) -> Option<TrafficKey> {
        None
    }

    fn next_opening(&mut self) -> Option<TrafficKey> {
        None
    }
}

#[test]
fn what_is_sealed_is_the_trace_byte_for_byte() {
    let mut sender = RecordSender::new(&key(SERVER_SECRET), SERVER_SEQUENCE, RECORDS_PER_KEY, Vec::new());
    let mut sent = Vec::new();
    let mut send = |sealed: &[u8]| -> io::Result<usize> {
        sent.extend_from_slice(sealed);
        Ok(sealed.len())
    };
    let taken = sender.write(&data(), &mut Vec::new(), &mut NoFurtherKeys, &mut send).expect("room");
    assert_eq!(taken, 50);
    sender.put_alert(AlertDescription::CloseNotify);
    sender.flush(&mut send).expect("room");
    assert_eq!(sent, [bytes(SERVER_DATA), bytes(SERVER_ALERT)].concat());
}

#[test]
fn the_trace_is_opened() {
    let trace = [bytes(CLIENT_DATA), bytes(CLIENT_ALERT)].concat();
    let mut receiver = RecordReceiver::new(key(CLIENT_SECRET), CLIENT_SEQUENCE, Vec::new());
    let (mut buffer, mut scratch) = (vec![0; 1024], vec![0; RECORD_MAX]);
    let incoming = receiver.read(&mut buffer, &mut scratch, &mut NoFurtherKeys, |room| {
        room[..trace.len()].copy_from_slice(&trace);
        Ok(trace.len())
    });
    let incoming = incoming.expect("good records");
    assert_eq!((&buffer[..incoming.data], incoming.ended), (&data()[..], true));
    let further = receiver.read(&mut buffer, &mut scratch, &mut NoFurtherKeys, |_| Err(ErrorKind::WouldBlock.into()));
    assert!(further.expect("the end").ended);
}

#[test]
fn a_record_of_the_trace_is_opened_only_in_its_place() {
    for (secret, sequence, record) in
        [(CLIENT_SECRET, 1, CLIENT_DATA), (SERVER_SECRET, 0, SERVER_DATA), (SERVER_SECRET, 0, CLIENT_DATA)]
    {
        let mut receiver = RecordReceiver::new(key(secret), sequence, bytes(record));
        let read = receiver.read(&mut [0; 64], &mut vec![0; RECORD_MAX], &mut NoFurtherKeys, |_| Ok(0));
        assert!(matches!(read, Err(ReceiveError::Record(_))), "{read:?}");
    }
}

#[test]
fn an_idle_connection_holds_no_buffer_of_its_handshake() {
    let drained = || Vec::with_capacity(4096);
    let sender = RecordSender::new(&key(SERVER_SECRET), SERVER_SEQUENCE, RECORDS_PER_KEY, drained());
    let receiver = RecordReceiver::new(key(CLIENT_SECRET), CLIENT_SEQUENCE, drained());
    assert_eq!((sender.held_bytes(), receiver.held_bytes()), (0, 0));
}
