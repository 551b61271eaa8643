//! The record layer speaks with rustls: every suite, any sizes, both directions, through any socket.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustls::ConnectionTrafficSecrets;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring as provider;
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tls_record::RECORD_MAX;
use tls_record::alert::AlertDescription;
use tls_record::keys::{Cipher, KeySchedule, TlsVersion, TrafficKey};
use tls_record::opening::RecordError;
use tls_record::receiver::{Incoming, ReceiveError, RecordReceiver};
use tls_record::sender::{CHUNK_BYTES, RECORDS_PER_KEY, RecordSender};

struct Keys {
    connection: KernelConnection<ServerConnectionData>,
    version: TlsVersion,
}

impl KeySchedule for Keys {
    fn next_sealing(&mut self) -> Option<TrafficKey> {
        self.connection.update_tx_secret().ok().map(|(_, secrets)| traffic_key(self.version, secrets))
    }

    fn next_opening(&mut self) -> Option<TrafficKey> {
        self.connection.update_rx_secret().ok().map(|(_, secrets)| traffic_key(self.version, secrets))
    }
}

fn traffic_key(version: TlsVersion, secrets: ConnectionTrafficSecrets) -> TrafficKey {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
        _ => panic!("unknown secrets"),
    };
    let iv = iv.as_ref().try_into().expect("12 bytes");
    TrafficKey::new(version, cipher, key.as_ref(), iv).expect("a key of the cipher's size")
}

/// A server with our record layer, and a client of rustls, with the bytes under way between them.
struct Pair {
    client: ClientConnection,
    sender: RecordSender,
    receiver: RecordReceiver,
    keys: Keys,
    to_server: Vec<u8>,
    scratch: Vec<u8>,
    batch: Vec<u8>,
}

#[derive(Debug)]
struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl Pair {
    fn connect(suite: rustls::SupportedCipherSuite, records_per_key: u64) -> Pair {
        let provider =
            Arc::new(rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..provider::default_provider() });
        let versions = [suite.version()];
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).expect("a key");
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .expect("a version of the suite")
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .expect("a pair");
        server.enable_secret_extraction = true;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .expect("a version of the suite")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAll))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
        client.set_buffer_limit(None);
        let mut server = UnbufferedServerConnection::new(Arc::new(server)).expect("a server");
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        loop {
            while client.wants_write() {
                client.write_tls(&mut to_server).expect("a vector");
            }
            let is_done = advance(&mut server, &mut to_server, &mut to_client);
            let mut received = &to_client[..];
            while !received.is_empty() {
                client.read_tls(&mut received).expect("a slice");
                client.process_new_packets().expect("a good server");
            }
            to_client.clear();
            if is_done && !client.is_handshaking() && !client.wants_write() {
                break;
            }
        }
        let (secrets, connection) = server.dangerous_into_kernel_connection().expect("secrets");
        let version = if suite.tls13().is_some() { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
        let sealing = traffic_key(version, secrets.tx.1);
        Pair {
            client,
            sender: RecordSender::new(&sealing, secrets.tx.0, records_per_key),
            receiver: RecordReceiver::new(traffic_key(version, secrets.rx.1), secrets.rx.0, &to_server),
            keys: Keys { connection, version },
            to_server: Vec::new(),
            scratch: vec![0; RECORD_MAX],
            batch: Vec::new(),
        }
    }

    /// Sends through a socket that takes what `room` says at a time; returns what the client has read.
    fn serve(&mut self, bytes: &[u8], mut room: impl FnMut() -> usize) -> Vec<u8> {
        let (client, mut read) = (&mut self.client, Vec::new());
        let mut deliver = |sealed: &[u8]| {
            let taken = room().min(sealed.len());
            if taken == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let mut taken_bytes = &sealed[..taken];
            while !taken_bytes.is_empty() {
                client.read_tls(&mut taken_bytes).expect("room");
                client.process_new_packets().expect("what rustls accepts");
                read_into(client, &mut read);
            }
            Ok(taken)
        };
        let mut at = 0;
        while at < bytes.len() {
            match self.sender.write(&bytes[at..], &mut self.batch, &mut self.keys, &mut deliver) {
                Ok(taken) => at += taken,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        while let Err(error) = self.sender.flush(&mut deliver) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        assert!(!self.sender.has_rest() && self.sender.held_bytes() == 0, "nothing is held when all is sent");
        read
    }

    fn say(&mut self, bytes: &[u8]) {
        self.client.writer().write_all(bytes).expect("no limit");
        self.flush_client();
    }

    fn flush_client(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.to_server).expect("a vector");
        }
    }

    /// One read of the server, of at most `most` bytes of the socket.
    fn hear(&mut self, buffer: &mut [u8], most: usize) -> Result<Incoming, ReceiveError> {
        let to_server = &mut self.to_server;
        self.receiver.read(buffer, &mut self.scratch, &mut self.keys, |room| {
            let taken = most.min(room.len()).min(to_server.len());
            if taken == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            room[..taken].copy_from_slice(&to_server[..taken]);
            to_server.drain(..taken);
            Ok(taken)
        })
    }

    fn hear_all(&mut self, buffer_bytes: usize, most: usize) -> Vec<u8> {
        let (mut heard, mut buffer) = (Vec::new(), vec![0; buffer_bytes]);
        loop {
            match self.hear(&mut buffer, most) {
                Ok(incoming) => heard.extend_from_slice(&buffer[..incoming.data]),
                Err(ReceiveError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn read_into(client: &mut ClientConnection, read: &mut Vec<u8>) {
    match client.reader().read_to_end(read) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}

/// True if the handshake is over.
fn advance(server: &mut UnbufferedServerConnection, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> bool {
    loop {
        let status = server.process_tls_records(incoming);
        let discard = status.discard;
        let mut buffer = vec![0; 16 * 1024];
        let done = match status.state.expect("a good client") {
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
            return done;
        }
    }
}

fn random(rng: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    rng.fill_bytes(&mut random);
    random
}

fn random_up_to(rng: &mut StdRng, bytes: usize) -> Vec<u8> {
    let bytes = rng.random_range(1..bytes);
    random(rng, bytes)
}

fn for_each_suite(check: impl Fn(rustls::SupportedCipherSuite, &mut StdRng)) {
    let mut versions = [0, 0];
    for suite in provider::ALL_CIPHER_SUITES {
        // The certificate is one of ECDSA.
        let is_rsa = format!("{:?}", suite.suite()).contains("_RSA_");
        if is_rsa {
            continue;
        }
        versions[usize::from(suite.tls13().is_some())] += 1;
        let seed = rand::random();
        eprintln!("{:?}, seed {seed}", suite.suite());
        check(*suite, &mut StdRng::seed_from_u64(seed));
    }
    assert_eq!(versions, [3, 3], "suites of TLS 1.2 and 1.3");
}

#[test]
fn rustls_reads_what_is_sealed_whatever_the_socket_takes() {
    for_each_suite(|suite, rng| {
        let mut pair = Pair::connect(suite, RECORDS_PER_KEY);
        for round in 0..200 {
            let size = match round % 4 {
                0 => rng.random_range(1..200),
                1 => CHUNK_BYTES * rng.random_range(1..4),
                2 => rng.random_range(1..200_000),
                _ => rng.random_range(CHUNK_BYTES - 2..CHUNK_BYTES + 3),
            };
            let sent = random(rng, size);
            let mut rooms = StdRng::seed_from_u64(rng.random());
            let is_narrow = round % 3 == 0;
            let read = pair.serve(&sent, || match rooms.random_range(0..4) {
                0 => 0,
                _ if is_narrow => rooms.random_range(1..5000),
                _ => usize::MAX,
            });
            assert!(read == sent, "{size} bytes");
        }
    });
}

#[test]
fn what_rustls_seals_is_opened_however_it_arrives() {
    for_each_suite(|suite, rng| {
        let mut pair = Pair::connect(suite, RECORDS_PER_KEY);
        for most in [1, 7, 100, 5000, usize::MAX] {
            for _ in 0..5 {
                let bytes = if most == 1 { 3000 } else { 60_000 };
                let said = random_up_to(rng, bytes);
                pair.say(&said);
                let buffer_bytes = [64, 1000, 16 * 1024][rng.random_range(0..3)];
                assert!(pair.hear_all(buffer_bytes, most) == said, "{} bytes in parts of {most}", said.len());
                assert_eq!(pair.receiver.held_bytes(), 0, "an idle connection holds nothing");
            }
        }
    });
}

#[test]
fn keys_are_replaced_by_both_sides_and_nothing_is_lost() {
    for_each_suite(|suite, rng| {
        if suite.tls13().is_none() {
            return;
        }
        let mut pair = Pair::connect(suite, 10);
        for round in 0..100 {
            let sent = random_up_to(rng, 100_000);
            let mut rooms = StdRng::seed_from_u64(rng.random());
            assert!(pair.serve(&sent, || rooms.random_range(0..30_000)) == sent, "round {round}");
            let said = random_up_to(rng, 1000);
            if round % 10 == 0 {
                pair.receiver.renew_key_updates();
            }
            if round % 2 == 0 {
                pair.client.refresh_traffic_keys().expect("TLS 1.3");
            }
            pair.say(&said);
            assert!(pair.hear_all(1000, usize::MAX) == said, "round {round}");
        }
    });
}

#[test]
fn a_key_that_the_client_asks_for_is_begun_at_once() {
    let mut pair = Pair::connect(provider::cipher_suite::TLS13_AES_128_GCM_SHA256, RECORDS_PER_KEY);
    pair.client.refresh_traffic_keys().expect("TLS 1.3");
    pair.flush_client();
    let incoming = pair.hear(&mut [0; 100], usize::MAX).expect("a KeyUpdate");
    assert_eq!(incoming, Incoming { data: 0, ended: false, key_updates: 1, wants_key: true });
    pair.sender.begin_key(&mut pair.keys).expect("a further key");
    assert!(pair.sender.has_rest());
    assert_eq!(pair.serve(b"with the new key", || usize::MAX), b"with the new key");
}

#[test]
fn keys_cannot_be_replaced_without_end() {
    let mut pair = Pair::connect(provider::cipher_suite::TLS13_AES_256_GCM_SHA384, RECORDS_PER_KEY);
    let mut counted = 0;
    let error = loop {
        pair.client.refresh_traffic_keys().expect("TLS 1.3");
        pair.flush_client();
        match pair.hear(&mut [0; 100], usize::MAX) {
            Ok(incoming) => counted += u32::from(incoming.key_updates),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReceiveError::Record(RecordError::TooManyKeyUpdates)), "{error}");
    assert_eq!(counted, 32);
}

#[test]
fn a_connection_of_tls_1_2_says_when_it_is_worn_out_and_stops_in_the_end() {
    let mut pair = Pair::connect(provider::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 10);
    let write = |pair: &mut Pair| {
        let Pair { sender, batch, keys, client, .. } = pair;
        sender.write(b"tick", batch, keys, |sealed| {
            client.read_tls(&mut &sealed[..]).expect("room");
            client.process_new_packets().expect("what rustls accepts");
            Ok(sealed.len())
        })
    };
    let mut written = 0;
    while !pair.sender.is_worn_out() {
        assert_eq!(write(&mut pair).expect("a good key"), 4);
        written += 1;
    }
    // The Finished message was the first record of the key.
    assert_eq!(written, 9);
    let error = loop {
        match write(&mut pair) {
            Ok(taken) => written += taken / 4,
            Err(error) => break error,
        }
    };
    assert_eq!(written, 19, "{error}");
    let mut read = Vec::new();
    read_into(&mut pair.client, &mut read);
    assert_eq!(read, b"tick".repeat(19));
}

#[test]
fn both_sides_say_that_they_end() {
    for_each_suite(|suite, _| {
        let mut pair = Pair::connect(suite, RECORDS_PER_KEY);
        pair.sender.put_alert(AlertDescription::CloseNotify);
        pair.serve(b"", || 1);
        assert_eq!(pair.client.reader().read(&mut [0; 10]).expect("a clean end"), 0);
        pair.say(b"last");
        pair.client.send_close_notify();
        pair.flush_client();
        let mut buffer = [0; 100];
        let last = pair.hear(&mut buffer, usize::MAX).expect("data");
        assert_eq!((last.data, last.ended), (4, true));
        assert!(pair.hear(&mut buffer, usize::MAX).expect("an end").ended);
    });
}

#[test]
fn what_is_forged_ends_the_connection_and_says_why() {
    for_each_suite(|suite, rng| {
        let says = |bad: &mut dyn FnMut(&mut Vec<u8>)| {
            let mut pair = Pair::connect(suite, RECORDS_PER_KEY);
            pair.say(b"a message");
            bad(&mut pair.to_server);
            let error = loop {
                match pair.hear(&mut [0; 100], usize::MAX) {
                    Ok(incoming) => assert_eq!(incoming.data, 0, "nothing forged is given away"),
                    Err(ReceiveError::Record(error)) => break error,
                    Err(error) => panic!("{error}"),
                }
            };
            let after = pair.hear(&mut [0; 100], usize::MAX).expect("an end");
            assert!(after.ended, "nothing more is read");
            error
        };
        let at = rng.random_range(5..20);
        assert_eq!(says(&mut |sealed| sealed[at] ^= 1), RecordError::BadMac);
        assert_eq!(says(&mut |sealed| *sealed = vec![23, 3, 3, 0x41, 1]), RecordError::TooLarge);
        assert_eq!(says(&mut |sealed| *sealed = vec![20, 3, 3, 0, 1, 1]), RecordError::Unexpected);
        assert_eq!(says(&mut |sealed| sealed[0] = 99), RecordError::Unexpected);
        assert_eq!(says(&mut |sealed| *sealed = vec![23, 3, 3, 0, 0]), RecordError::BadMac);
        // The first record again.
        let mut pair = Pair::connect(suite, RECORDS_PER_KEY);
        pair.say(b"once");
        let again = pair.to_server.clone();
        assert_eq!(pair.hear_all(100, usize::MAX), b"once");
        pair.to_server = again;
        let error = pair.hear(&mut [0; 100], usize::MAX).expect_err("a repeat");
        assert!(matches!(error, ReceiveError::Record(RecordError::BadMac)), "{error}");
    });
}

#[test]
fn a_lost_socket_is_reported_as_it_is() {
    let mut pair = Pair::connect(provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, RECORDS_PER_KEY);
    let Pair { sender, batch, keys, receiver, scratch, .. } = &mut pair;
    let error = sender.write(b"tick", batch, keys, |_| Err(io::ErrorKind::BrokenPipe.into())).expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let incoming = receiver.read(&mut [0; 10], scratch, keys, |_| Ok(0)).expect("an end");
    assert!(incoming.ended);
}
