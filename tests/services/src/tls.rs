//! TLS before a service that has none, by an authority of its own.
//!
//! ```text
//!   client ──https──▶ Front ──http──▶ service
//!                       └─ a certificate for localhost and 127.0.0.1, signed by `authority()`
//! ```

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Nobody waits longer than this for the other end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens until the test program ends. One request a connection: it says `connection: close` to both ends.
#[derive(Debug)]
pub struct Front {
    url: String,
    authority: tempfile::NamedTempFile,
}

impl Front {
    /// In front of the service at `url`, which is `http://HOST:PORT`.
    ///
    /// # Panics
    /// When no port or certificate is to be had.
    pub fn before(url: &str) -> Self {
        let behind = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (acceptor, authority) = certified().expect("certificates can be made");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&authority).expect("the authority is written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let acceptor = Arc::new(acceptor);
            for stream in listener.incoming().flatten() {
                let (acceptor, behind) = (Arc::clone(&acceptor), behind.clone());
                // What a client breaks off is the client's business.
                std::thread::spawn(move || forward(&acceptor, stream, &behind));
            }
        });
        Front { url: format!("https://{address}"), authority: file }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The PEM file of who vouches for it.
    pub fn authority(&self) -> &Path {
        self.authority.path()
    }
}

fn forward(acceptor: &SslAcceptor, stream: TcpStream, behind: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = BufReader::new(acceptor.accept(stream).map_err(io::Error::other)?);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if !name.eq_ignore_ascii_case("connection") {
            head.push_str(&line);
        }
    }
    head.push_str("connection: close\r\n\r\n");
    let mut service = TcpStream::connect(behind)?;
    service.set_read_timeout(Some(PATIENCE))?;
    service.write_all(head.as_bytes())?;
    io::copy(&mut client.by_ref().take(length), &mut service)?;
    let (client, mut service, mut status) = (client.get_mut(), BufReader::new(service), String::new());
    service.read_line(&mut status)?;
    // Not every service says it: a client that is not told keeps the connection, and may ask again just before it ends.
    write!(client, "{status}connection: close\r\n")?;
    io::copy(&mut service, client)?;
    client.shutdown().map_err(io::Error::other)?;
    Ok(())
}

/// A server's end of TLS, and its authority as PEM.
fn certified() -> Result<(SslAcceptor, Vec<u8>), ErrorStack> {
    let (authority_key, server_key) = (key()?, key()?);
    let authority = certificate("smartlog test authority", &authority_key, None)?;
    let server = certificate("localhost", &server_key, Some((&authority, &authority_key)))?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_private_key(&server_key)?;
    acceptor.set_certificate(&server)?;
    Ok((acceptor.build(), authority.to_pem()?))
}

fn key() -> Result<PKey<Private>, ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&curve)?)
}

/// For a day; signed by `by`, or by itself as an authority.
fn certificate(
    name: &str,
    key: &PKey<Private>,
    by: Option<(&X509, &PKey<Private>)>,
) -> Result<X509, ErrorStack> {
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut serial = BigNum::new()?;
    serial.rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false)?;
    let mut built = X509::builder()?;
    built.set_version(2)?;
    built.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    built.set_subject_name(&subject)?;
    built.set_issuer_name(by.map_or(&subject, |(authority, _)| authority.subject_name()))?;
    built.set_pubkey(key)?;
    built.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    built.set_not_after(&*Asn1Time::days_from_now(1)?)?;
    if by.is_none() {
        built.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    } else {
        let names = SubjectAlternativeName::new()
            .dns("localhost")
            .ip("127.0.0.1")
            .build(&built.x509v3_context(None, None))?;
        built.append_extension(names)?;
    }
    built.sign(by.map_or(key, |(_, key)| key), MessageDigest::sha256())?;
    Ok(built.build())
}
