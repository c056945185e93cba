//! Signatures of module files, made with minisign.
//!
//! Where `policy_keys` names keys, each module needs a file beside it, `NAME.wasm.minisig`, that one of the keys made
//! over the module's bytes as they lie there. The comment that is signed with them names the module, so that a signed module cannot be
//! passed off as another. What is refused here was not looked at in any other way.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{PublicKey, Signature};

use super::error::{SourceError, clip_name};
use super::file::read;

/// What a signature's file is called after the module's.
pub const SIGNATURE_ENDING: &str = ".minisig";

/// The largest signature that is read: minisign's comments have 8 KiB at most.
const SIGNATURE_BYTES_MAX: u64 = 16 << 10;

/// Bytes of a signature in front of the key's number: its algorithm.
const ALGORITHM: std::ops::Range<usize> = 0..2;

/// Where a signature names the key that made it.
const KEY_NUMBER: std::ops::Range<usize> = 2..10;

/// The algorithm that signs the file itself and not its hash, as minisign did before version 0.8.
const LEGACY: &[u8] = b"Ed";

/// A key that modules may be signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyKey {
    written: String,
    number: KeyNumber,
    key: PublicKey,
}

/// The number of a key, by which minisign calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNumber(u64);

/// The keys that modules may be signed with; without any, signatures are not asked for. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyKeys(Arc<[PolicyKey]>);

/// Why a module's signature will not do.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// No file.
    #[error(
        "is not signed: expected {signature} made with {} (minisign -Sm {module})",
        match *.keys { 1 => "the key of policy_keys".to_owned(), keys => format!("one of {keys} policy_keys") }
    )]
    Missing {
        /// The module's file.
        module: String,
        /// The signature's.
        signature: String,
        /// How many keys there are.
        keys: usize,
    },
    /// There is a file, but it cannot be read.
    #[error("{signature} {error}")]
    Unreadable {
        /// The signature's file.
        signature: String,
        /// Why.
        error: SourceError,
    },
    /// Something else, or half a signature.
    #[error("{signature} is no signature of minisign's, or is still being copied")]
    Malformed {
        /// The signature's file.
        signature: String,
    },
    /// It signs the file itself.
    #[error("{signature} is a legacy signature; sign again with minisign 0.8 or later")]
    Legacy {
        /// The signature's file.
        signature: String,
    },
    /// Made by somebody else.
    #[error("{signature} was made with key {number}, which is not among policy_keys")]
    UnknownKey {
        /// The signature's file.
        signature: String,
        /// As the signature says.
        number: KeyNumber,
    },
    /// Not over these bytes, or not by this key.
    #[error("{signature} does not fit {module}: one of the two was changed or is still being copied")]
    Unfit {
        /// The module's file.
        module: String,
        /// The signature's.
        signature: String,
    },
    /// Over these bytes, under another name.
    #[error("{signature} was made for {made_for}; this is {module}")]
    OtherName {
        /// The module's file.
        module: String,
        /// The signature's.
        signature: String,
        /// What the signed comment says.
        made_for: String,
    },
}

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a minisign public key; expected 56 characters that begin with RW")]
pub struct NoKey;

impl PolicyKey {
    /// The key in a text: the key alone, or the file that `minisign -G` writes. `written` is how it was given.
    ///
    /// # Errors
    ///
    /// It is no public key.
    pub fn parse(text: &str, written: &str) -> Result<Self, NoKey> {
        // The comment above it is not signed, so it means nothing.
        let key = text.lines().map(str::trim).rfind(|line| !line.is_empty()).ok_or(NoKey)?;
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| NoKey)?;
        let number = KeyNumber::of(&bytes).ok_or(NoKey)?;
        let key = PublicKey::from_base64(key).map_err(|_| NoKey)?;
        Ok(Self { written: written.to_owned(), number, key })
    }

    /// As it was given: the key, or `file:PATH`.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Its number.
    pub fn number(&self) -> KeyNumber {
        self.number
    }

    /// True when both are the same key, however they were given.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl KeyNumber {
    /// The number in a key or a signature.
    fn of(bytes: &[u8]) -> Option<Self> {
        let number = bytes.get(KEY_NUMBER)?.try_into().ok()?;
        Some(Self(u64::from_le_bytes(number)))
    }
}

impl fmt::Display for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl From<Vec<PolicyKey>> for PolicyKeys {
    fn from(keys: Vec<PolicyKey>) -> Self {
        Self(keys.into())
    }
}

impl PolicyKeys {
    /// True when signatures are not asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when a version that this key has signed may serve; `None` is one that nobody signed.
    pub fn accept(&self, signer: Option<&PolicyKey>) -> bool {
        self.is_empty() || signer.is_some_and(|signer| self.0.iter().any(|key| key.is_same(signer)))
    }

    /// Checks the signature that lies beside a module with these bytes. Returns the key that made it; `None` when
    /// signatures are not asked for.
    ///
    /// # Errors
    ///
    /// There is none, or it will not do.
    pub fn check(
        &self,
        path: &Path,
        bytes: &[u8],
        signature: Result<Vec<u8>, SourceError>,
    ) -> Result<Option<PolicyKey>, SignatureError> {
        match self.is_empty() {
            true => Ok(None),
            false => self.verify(&name_of(path), bytes, signature).map(Some),
        }
    }

    fn verify(
        &self,
        module: &str,
        bytes: &[u8],
        signature: Result<Vec<u8>, SourceError>,
    ) -> Result<PolicyKey, SignatureError> {
        let (module, name) = (module.to_owned(), format!("{module}{SIGNATURE_ENDING}"));
        let text = match signature {
            Ok(text) => text,
            Err(SourceError::NotFound) => {
                return Err(SignatureError::Missing { module, signature: name, keys: self.0.len() });
            }
            Err(error) => return Err(SignatureError::Unreadable { signature: name, error }),
        };
        let Some((algorithm, number, signature)) = std::str::from_utf8(&text).ok().and_then(decode) else {
            return Err(SignatureError::Malformed { signature: name });
        };
        if algorithm == LEGACY {
            return Err(SignatureError::Legacy { signature: name });
        }
        let mut named = self.0.iter().filter(|key| key.number == number).peekable();
        if named.peek().is_none() {
            return Err(SignatureError::UnknownKey { signature: name, number });
        }
        let Some(key) = named.find(|key| key.key.verify(bytes, &signature, false).is_ok()) else {
            return Err(SignatureError::Unfit { module, signature: name });
        };
        match made_for(signature.trusted_comment(), &module) {
            Ok(()) => Ok(key.clone()),
            Err(made_for) => Err(SignatureError::OtherName { module, signature: name, made_for }),
        }
    }
}

impl SignatureError {
    /// True when the module or its signature may still be on its way.
    pub fn is_incomplete(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Malformed { .. } | Self::Unfit { .. } => true,
            Self::Unreadable { .. } | Self::Legacy { .. } | Self::UnknownKey { .. } | Self::OtherName { .. } => false,
        }
    }
}

/// The path of the signature of the module at this path.
pub fn signature_path(module: &Path) -> PathBuf {
    let mut path = module.as_os_str().to_owned();
    path.push(SIGNATURE_ENDING);
    path.into()
}

/// Reads the signature that lies beside a module.
///
/// # Errors
///
/// There is none, or it cannot be read.
pub fn read_signature(module: &Path) -> Result<Vec<u8>, SourceError> {
    let bytes = read(&signature_path(module), SIGNATURE_BYTES_MAX)?;
    let (len, max) = (bytes.len() as u64, SIGNATURE_BYTES_MAX);
    if len > max { Err(SourceError::FileTooLarge { bytes: len, max }) } else { Ok(bytes) }
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Algorithm, key and signature.
fn decode(text: &str) -> Option<([u8; 2], KeyNumber, Signature)> {
    let signature = Signature::decode(text).ok()?;
    let bytes = BASE64_STANDARD.decode(text.lines().nth(1)?).ok()?;
    Some((bytes.get(ALGORITHM)?.try_into().ok()?, KeyNumber::of(&bytes)?, signature))
}

/// Whether the comment that is signed names this module: `file:mine.wasm`, as minisign writes by itself, or
/// `policy:mine`. `Err` is what it names.
fn made_for(comment: &str, module: &str) -> Result<(), String> {
    let policy = module.rsplit_once('.').map_or(module, |(name, _)| name);
    let mut other = None;
    for word in comment.split_whitespace() {
        let (named, is_this) = if let Some(file) = word.strip_prefix("file:") {
            (file, file == module)
        } else if let Some(name) = word.strip_prefix("policy:") {
            (name, name == policy)
        } else {
            continue;
        };
        if is_this {
            return Ok(());
        }
        other.get_or_insert(named);
    }
    Err(other.map_or_else(
        || format!("no module: its trusted comment has no \"file:{module}\""),
        |other| format!("\"{}\"", clip_name(other)),
    ))
}
