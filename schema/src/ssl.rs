//! What a PostgreSQL URL asks of TLS, in libpq's words. The driver knows fewer `sslmode`s than libpq and no
//! `sslrootcert`, so both are taken out of the URL before the driver reads it.

use std::path::PathBuf;

/// How much of TLS is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    Disable,
    /// Encrypted where the server offers it (libpq's default).
    #[default]
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, and the certificate is signed by a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// What the words of a URL come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SslOptions {
    pub mode: SslMode,
    /// PEM file of the authorities that are known; `None`: those of the system.
    pub root_cert: Option<PathBuf>,
}

impl SslOptions {
    /// The URL without these options, and the options.
    ///
    /// # Errors
    /// Of an unknown `sslmode`, in words that show nothing of the URL: it may hold a password.
    pub fn take(url: &str) -> Result<(String, SslOptions), &'static str> {
        let mut options = SslOptions::default();
        let Some((base, query)) = url.split_once('?') else { return Ok((url.into(), options)) };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", text)) => options.mode = parse_mode(text)?,
                Some(("sslrootcert", file)) => {
                    options.root_cert = Some(PathBuf::from(file.replace("%2F", "/").replace("%2f", "/")));
                }
                _ => kept.push(pair),
            }
        }
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        Ok((format!("{base}{query}"), options))
    }

    /// Whether a session without TLS is refused.
    pub fn requires(&self) -> bool {
        !matches!(self.mode, SslMode::Disable | SslMode::Prefer)
    }

    /// Whether the certificate must be signed by a known authority. As libpq: whoever names authorities with `require`
    /// wants them asked.
    pub fn verifies_authority(&self) -> bool {
        self.requires() && (self.mode != SslMode::Require || self.root_cert.is_some())
    }

    /// Whether the certificate must name the host.
    pub fn verifies_host(&self) -> bool {
        self.mode == SslMode::VerifyFull
    }
}

fn parse_mode(text: &str) -> Result<SslMode, &'static str> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "allow" | "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err("its sslmode is none of disable, prefer, require, verify-ca, verify-full"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(query: &str) -> (String, SslOptions) {
        SslOptions::take(&format!("postgres://u:p@h/d{query}")).expect("known options")
    }

    #[test]
    fn libpqs_options_are_taken_out_and_the_others_stay() {
        let (url, options) = taken("?a=1&sslmode=verify-full&sslrootcert=%2Fca.pem&connect_timeout=3");
        assert_eq!(url, "postgres://u:p@h/d?a=1&connect_timeout=3");
        assert_eq!((options.mode, options.root_cert), (SslMode::VerifyFull, Some("/ca.pem".into())));
        assert_eq!(taken("?sslmode=allow").0, "postgres://u:p@h/d");
        assert_eq!(taken(""), ("postgres://u:p@h/d".into(), SslOptions::default()));
        assert!(SslOptions::take("postgres://u@h/d?sslmode=sometimes").is_err());
    }

    #[test]
    fn modes_ask_for_what_they_ask_for_in_libpq() {
        // Of each: encrypted or nothing, a known authority, the right name.
        for (query, asks) in [
            ("?sslmode=disable", (false, false, false)),
            ("", (false, false, false)),
            ("?sslmode=require", (true, false, false)),
            ("?sslmode=require&sslrootcert=ca", (true, true, false)),
            ("?sslmode=verify-ca", (true, true, false)),
            ("?sslmode=verify-full", (true, true, true)),
        ] {
            let options = taken(query).1;
            let found = (options.requires(), options.verifies_authority(), options.verifies_host());
            assert_eq!(found, asks, "{query}");
        }
    }
}
