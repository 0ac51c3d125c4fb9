//! Who may ask: bearer tokens, of which the configuration holds only hashes.
//!
//! ```text
//!   Authorization: Bearer slt_… ──SHA-256──▶ compared with every configured hash, in constant time ──▶ Caller ──▶ scope?
//! ```
//! A token is 256 random bits, so a plain SHA-256 keeps it: there is nothing to guess that a slow hash would slow down.

use crate::problem::Problem;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::{self, HeaderMap};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything that is asked by GET.
    Read,
    /// Saying what an anomaly was, and what is to be expected.
    Feedback,
}

impl Scope {
    pub const ALL: [Scope; 2] = [Scope::Read, Scope::Feedback];

    /// The spelling in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Feedback => "feedback",
        }
    }

    /// The inverse of [`Scope::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// One configured token: `NAME:SCOPE+SCOPE:SHA256`, the hash in hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub name: Arc<str>,
    pub scopes: Vec<Scope>,
    hash: [u8; 32],
}

impl Token {
    /// A token for `name` and the secret that its user sends: shown once, stored nowhere.
    pub fn generate(name: &str, scopes: &[Scope]) -> (Token, String) {
        let secret = format!("slt_{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        (Token { name: name.into(), scopes: scopes.to_vec(), hash: hash(&secret) }, secret)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        write!(f, "{}:{}:", self.name, scopes.join("+"))?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Without the hash: it is of use to nobody who reads a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, {:?})", self.name, self.scopes)
    }
}

/// A token's line that cannot be read, in words that do not repeat what may be a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}; a token is written NAME:SCOPE+SCOPE:SHA256 (`smartlog api token` makes one)")]
pub struct InvalidToken {
    found: String,
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let invalid = |found: String| InvalidToken { found };
        let parts: Vec<&str> = line.split(':').collect();
        let [name, scopes, digits] = parts[..] else {
            return Err(invalid(format!("found {} parts between colons, expected 3", parts.len())));
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(is_plain) {
            return Err(invalid("the name must be 1 to 100 letters, digits, -, _ or .".into()));
        }
        let parse = |word: &str| {
            Scope::parse(word)
                .ok_or_else(|| invalid(format!("{name} has an unknown scope; there are read and feedback")))
        };
        let scopes = scopes.split('+').map(parse).collect::<Result<Vec<_>, _>>()?;
        let hash = bytes(digits)
            .ok_or_else(|| invalid(format!("the hash of {name} is not 64 hexadecimal digits")))?;
        Ok(Token { name: name.into(), scopes, hash })
    }
}

fn bytes(digits: &str) -> Option<[u8; 32]> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        std::str::from_utf8(pair)
            .ok()
            .filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Who asked, by a token that is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    pub name: Arc<str>,
    /// The token's place in the configuration.
    place: usize,
}

/// The configured tokens. None: everybody may do everything.
#[derive(Debug, Default)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    pub fn new(tokens: Vec<Token>) -> Self {
        Tokens(tokens)
    }

    pub fn are_asked_for(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whose token the request carries; `None` without a token, or where none is asked for.
    ///
    /// # Errors
    /// 401 for a token that is not configured.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
        if !self.are_asked_for() {
            return Ok(None);
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let secret = value.to_str().ok().and_then(|value| {
            let (scheme, secret) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
        });
        let place = secret.and_then(|secret| self.place_of(&hash(secret)));
        match place.and_then(|place| Some((place, self.0.get(place)?))) {
            Some((place, token)) => Ok(Some(Caller { name: Arc::clone(&token.name), place })),
            None => Err(Problem::unauthorized("the token in Authorization is not one of those configured")),
        }
    }

    /// Looks at every token, whichever matches, so that the time taken tells nothing.
    fn place_of(&self, given: &[u8; 32]) -> Option<usize> {
        let mut found = u64::MAX;
        for (place, token) in (0u64..).zip(&self.0) {
            let is_equal: Choice = token.hash.ct_eq(given);
            found.conditional_assign(&place, is_equal);
        }
        usize::try_from(found).ok().filter(|place| *place < self.0.len())
    }

    /// Whether `caller` may do what asks for `scope`.
    ///
    /// # Errors
    /// 401 without a token, 403 with one that does not allow it.
    pub fn check(&self, caller: Option<&Caller>, scope: Scope) -> Result<(), Problem> {
        if !self.are_asked_for() {
            return Ok(());
        }
        let Some(caller) = caller else {
            return Err(Problem::unauthorized(
                "this needs a token: send it as `Authorization: Bearer TOKEN`",
            ));
        };
        let token = self.0.get(caller.place);
        if token.is_some_and(|token| token.scopes.contains(&scope)) {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "the token {} does not have the scope {}",
            caller.name,
            scope.as_str()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(secret: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {secret}").parse().unwrap());
        headers
    }

    #[test]
    fn a_token_is_read_back_from_its_line_and_the_line_does_not_hold_the_secret() {
        let (token, secret) = Token::generate("ops", &Scope::ALL);
        let line = token.to_string();
        assert_eq!(line.parse::<Token>().unwrap(), token);
        assert!(line.starts_with("ops:read+feedback:") && !line.contains(&secret));
        assert!(!format!("{token:?}").contains(line.rsplit(':').next().unwrap()));
        assert_ne!(Token::generate("ops", &Scope::ALL).1, secret);
    }

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        // printf %s secret | sha256sum
        let line = "a:read:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let tokens = Tokens::new(vec![line.parse().unwrap()]);
        assert_eq!(&*tokens.caller(&asking("secret")).unwrap().unwrap().name, "a");
        assert_eq!(tokens.caller(&asking("secreT")).unwrap_err().status, 401);
    }

    #[test]
    fn lines_that_cannot_be_read_say_what_is_wrong_and_repeat_no_hash() {
        let digits = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        for (line, words) in [
            ("secret".to_owned(), "found 1 parts"),
            (format!(":read:{digits}"), "the name must be"),
            (format!("a b:read:{digits}"), "the name must be"),
            (format!("a:write:{digits}"), "unknown scope"),
            (format!("a::{digits}"), "unknown scope"),
            (format!("a:read:{}", &digits[1..]), "64 hexadecimal digits"),
            (format!("a:read:{}é", &digits[2..]), "64 hexadecimal digits"),
            (format!("a:read:+{}", &digits[1..]), "64 hexadecimal digits"),
        ] {
            let error = line.parse::<Token>().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains(&digits[5..]), "{line}: {error}");
        }
    }

    #[test]
    fn scopes_are_kept_apart() {
        let (reader, read_secret) = Token::generate("reader", &[Scope::Read]);
        let (teller, tell_secret) = Token::generate("teller", &[Scope::Feedback]);
        let tokens = Tokens::new(vec![reader, teller]);
        for (secret, scope, allowed) in [
            (&read_secret, Scope::Read, true),
            (&read_secret, Scope::Feedback, false),
            (&tell_secret, Scope::Read, false),
            (&tell_secret, Scope::Feedback, true),
        ] {
            let caller = tokens.caller(&asking(secret)).unwrap();
            assert_eq!(
                tokens.check(caller.as_ref(), scope).map_err(|p| p.status),
                if allowed { Ok(()) } else { Err(403) }
            );
        }
        assert_eq!(tokens.check(None, Scope::Read).unwrap_err().status, 401);
        assert!(Tokens::default().check(None, Scope::Feedback).is_ok());
    }
}
