//! The shared cache of bearer tokens: one item per slot, changed by conditional updates only, tokens sealed.
//!
//! | attribute | meaning |
//! |---|---|
//! | `pk` | `<connection>#<system>#<client>` |
//! | `generation` | counts the tokens; absent before the first |
//! | `sealed`, `seal`, `key_id` | the token under XChaCha20-Poly1305, the form of the seal, which key made it |
//! | `expires_at`, `refresh_after` | milliseconds since 1970; absent, like `sealed`, once the token was dropped |
//! | `leased_until`, `holder` | who fetches the next one, and until when nobody else does |
//! | `writer` | who stored the latest token |

use crate::clients::failure::judge;
use crate::clock::random_bytes;
use crate::dynamo::{Item, Tries, number, number_value, text, text_value};
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use domain::ids::ConnectionId;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{CachedToken, Chance, Clock, StoreError, TokenSlot, TokenState, TokenStore};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::Sha256;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The form of the seal that this program makes and opens.
const SEAL: u64 = 1;
/// Length of the key material in the connection's document, in bytes.
const MATERIAL_BYTES: usize = 32;
/// Length of a nonce, in bytes: long enough to be drawn by lot.
const NONCE_BYTES: usize = 24;
/// Length of a key's id, in bytes.
const KEY_ID_BYTES: usize = 8;

/// Where the key material of a connection is.
#[async_trait]
pub trait TokenKeys: Send + Sync {
    /// The field `token_key` of the connection's document: 32 random bytes in base64.
    ///
    /// # Errors
    /// When there is none or it cannot be read now.
    async fn token_key(&self, connection: &ConnectionId) -> Result<SecretString, Problem>;
}

/// The key that seals the tokens of one connection.
pub struct SealKey {
    id: String,
    key: SecretBox<[u8; MATERIAL_BYTES]>,
}

impl SealKey {
    /// Derives the key from the material: HKDF-SHA256's expansion (RFC 5869 §2.3, one block), because the material is
    /// already uniformly random.
    ///
    /// # Errors
    /// `TOKEN_KEY_INVALID` unless `material` is 32 bytes in base64.
    pub fn derive(material: &SecretString) -> Result<Self, Problem> {
        let invalid = |actual: String| {
            Problem::new(
                "TOKEN_KEY_INVALID",
                "Put 32 random bytes in base64 there (openssl rand -base64 32).",
            )
            .field("token_key")
            .expected("32 bytes in base64")
            .actual(actual)
        };
        let bytes = STANDARD
            .decode(material.expose_secret().trim())
            .map(Zeroizing::new)
            .map_err(|_| invalid("a text that is not base64".to_owned()))?;
        if bytes.len() != MATERIAL_BYTES {
            return Err(invalid(format!("{} bytes", bytes.len())));
        }
        let expand = |info: &[u8]| -> Result<[u8; MATERIAL_BYTES], Problem> {
            let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&bytes)
                .map_err(|_| invalid("a bad length".to_owned()))?;
            mac.update(info);
            mac.update(&[1]);
            Ok(mac.finalize().into_bytes().into())
        };
        let id: String = hex::encode(expand(b"qad-coupa token seal id")?)
            .chars()
            .take(KEY_ID_BYTES.saturating_mul(2))
            .collect();
        Ok(Self {
            id,
            key: SecretBox::new(Box::new(expand(b"qad-coupa token seal 1")?)),
        })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.expose_secret().into())
    }

    fn seal(&self, token: &SecretString, context: &str) -> Result<String, Problem> {
        // Nonces come from the operating system and not from a port: a repeated one would open both tokens.
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let payload = Payload {
            msg: token.expose_secret().as_bytes(),
            aad: context.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| {
                Problem::new(
                    "TOKEN_NOT_SEALED",
                    "The token is longer than any token is; look at the other system.",
                )
            })?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, sealed: &str, context: &str) -> Option<SecretString> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: context.as_bytes(),
        };
        let token = self.cipher().decrypt(&XNonce::from(*nonce), payload).ok()?;
        String::from_utf8(token).ok().map(SecretString::from)
    }
}

/// The cache in DynamoDB.
#[derive(Clone)]
pub struct DynamoTokenStore {
    client: Client,
    table: String,
    keys: Arc<dyn TokenKeys>,
    tries: Tries,
}

impl DynamoTokenStore {
    /// The cache in this table. Sends nothing yet.
    pub fn new(
        client: Client,
        table: String,
        keys: Arc<dyn TokenKeys>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        Self {
            client,
            table,
            keys,
            tries: Tries::new(clock, chance),
        }
    }

    async fn key(&self, connection: &ConnectionId) -> Result<SealKey, StoreError> {
        let material = self.keys.token_key(connection).await.map_err(StoreError)?;
        SealKey::derive(&material).map_err(StoreError)
    }

    fn update(&self, slot: &TokenSlot) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", text_value(place(slot)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// Sends a conditional update; `is_ours` recognises the update's own earlier success in what lies there.
    async fn conditional(
        &self,
        request: UpdateItemFluentBuilder,
        is_ours: impl Fn(&Item) -> bool + Sync,
    ) -> Result<bool, StoreError> {
        let send = || async {
            match request.clone().send().await {
                Ok(_) => Ok(true),
                Err(error) => match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                        Ok(failed.item().is_some_and(&is_ours))
                    }
                    _ => Err(judge("DYNAMODB", "UpdateItem", &error)),
                },
            }
        };
        self.tries.repeat(send).await.map_err(StoreError)
    }

    async fn get(&self, slot: &TokenSlot) -> Result<Option<Item>, StoreError> {
        let send = || async {
            let request = self
                .client
                .get_item()
                .table_name(&self.table)
                .key("pk", text_value(place(slot)));
            let answer = request.consistent_read(true).send().await;
            answer
                .map(|answer| answer.item)
                .map_err(|error| judge("DYNAMODB", "GetItem", &error))
        };
        self.tries.repeat(send).await.map_err(StoreError)
    }

    /// Opens the item's token. One that cannot be opened counts as none: a new one is one request away.
    async fn token(
        &self,
        slot: &TokenSlot,
        item: &Item,
        generation: u64,
    ) -> Result<Option<CachedToken>, StoreError> {
        if !item.contains_key("sealed") {
            return Ok(None);
        }
        let key = self.key(&slot.connection).await?;
        let opened = (number::<u64>(item, "seal").map_err(StoreError)? == SEAL)
            .then(|| {
                text(item, "sealed")
                    .ok()
                    .and_then(|sealed| key.open(sealed, &context(slot, generation)))
            })
            .flatten();
        let Some(token) = opened else {
            let made_by = text(item, "key_id").unwrap_or("?");
            tracing::warn!(
                metric = "token_unopenable", value = 1u64, code = "TOKEN_UNOPENABLE", connection = %slot.connection,
                system = slot.system, generation, key_id = key.id, made_by, "cached token cannot be opened, counts as none"
            );
            return Ok(None);
        };
        Ok(Some(CachedToken {
            generation,
            token,
            expires_at: Timestamp(number(item, "expires_at").map_err(StoreError)?),
            refresh_after: Timestamp(number(item, "refresh_after").map_err(StoreError)?),
        }))
    }
}

#[async_trait]
impl TokenStore for DynamoTokenStore {
    async fn load(&self, slot: &TokenSlot) -> Result<TokenState, StoreError> {
        let Some(item) = self.get(slot).await? else {
            return Ok(TokenState::default());
        };
        let generation = generation(&item).map_err(StoreError)?;
        let leased_until = if item.contains_key("leased_until") {
            Some(Timestamp(number(&item, "leased_until").map_err(StoreError)?))
        } else {
            None
        };
        Ok(TokenState {
            token: self.token(slot, &item, generation).await?,
            generation,
            leased_until,
        })
    }

    async fn lease(
        &self,
        slot: &TokenSlot,
        generation: u64,
        now: Timestamp,
        until: Timestamp,
        holder: &str,
    ) -> Result<bool, StoreError> {
        let request = self
            .update(slot)
            .update_expression("SET leased_until = :until, holder = :holder")
            .condition_expression(format!(
                "{} AND (attribute_not_exists(leased_until) OR leased_until <= :now)",
                generation_is(generation)
            ))
            .expression_attribute_values(":generation", number_value(generation))
            .expression_attribute_values(":until", number_value(until.0))
            .expression_attribute_values(":holder", text_value(holder))
            .expression_attribute_values(":now", number_value(now.0));
        let is_ours = |old: &Item| {
            self::generation(old) == Ok(generation)
                && text(old, "holder") == Ok(holder)
                && number(old, "leased_until") == Ok(until.0)
        };
        self.conditional(request, is_ours).await
    }

    async fn store(&self, slot: &TokenSlot, token: &CachedToken, holder: &str) -> Result<bool, StoreError> {
        let Some(before) = token.generation.checked_sub(1) else {
            let problem = Problem::new(
                "TOKEN_GENERATION_INVALID",
                "This is a fault in the program: report it with this line.",
            );
            return Err(StoreError(problem.expected("generations from 1").actual("0")));
        };
        let key = self.key(&slot.connection).await?;
        let sealed = key
            .seal(&token.token, &context(slot, token.generation))
            .map_err(StoreError)?;
        let request = self
            .update(slot)
            .update_expression(
                "SET generation = :next, sealed = :sealed, seal = :seal, key_id = :key_id, expires_at = :expires_at, \
                 refresh_after = :refresh_after, writer = :holder REMOVE leased_until, holder",
            )
            .condition_expression(format!("{} AND holder = :holder", generation_is(before)))
            .expression_attribute_values(":generation", number_value(before))
            .expression_attribute_values(":next", number_value(token.generation))
            .expression_attribute_values(":sealed", text_value(sealed))
            .expression_attribute_values(":seal", number_value(SEAL))
            .expression_attribute_values(":key_id", text_value(&key.id))
            .expression_attribute_values(":expires_at", number_value(token.expires_at.0))
            .expression_attribute_values(":refresh_after", number_value(token.refresh_after.0))
            .expression_attribute_values(":holder", text_value(holder));
        let is_ours =
            |old: &Item| self::generation(old) == Ok(token.generation) && text(old, "writer") == Ok(holder);
        self.conditional(request, is_ours).await
    }

    async fn drop_token(&self, slot: &TokenSlot, generation: u64) -> Result<(), StoreError> {
        let request = self
            .update(slot)
            .update_expression("REMOVE sealed, seal, key_id, expires_at, refresh_after")
            .condition_expression("generation = :generation")
            .expression_attribute_values(":generation", number_value(generation));
        // False: a newer token has taken its place already, so nobody can load the refused one any more.
        let dropped = self.conditional(request, |_| false).await?;
        tracing::info!(connection = %slot.connection, system = slot.system, generation, dropped, "token dropped");
        Ok(())
    }

    async fn release(&self, slot: &TokenSlot, generation: u64, holder: &str) -> Result<(), StoreError> {
        let request = self
            .update(slot)
            .update_expression("REMOVE leased_until, holder")
            .condition_expression(format!("{} AND holder = :holder", generation_is(generation)))
            .expression_attribute_values(":generation", number_value(generation))
            .expression_attribute_values(":holder", text_value(holder));
        // False: the lease is over already, or somebody else's.
        self.conditional(request, |_| false).await.map(|_| ())
    }
}

fn place(slot: &TokenSlot) -> String {
    format!("{}#{}#{}", slot.connection, slot.system, slot.client)
}

/// What a seal is bound to: a token moved to another slot or generation does not open.
fn context(slot: &TokenSlot, generation: u64) -> String {
    format!("{}#{generation}", place(slot))
}

fn generation(item: &Item) -> Result<u64, Problem> {
    if item.contains_key("generation") {
        number(item, "generation")
    } else {
        Ok(0)
    }
}

fn generation_is(generation: u64) -> &'static str {
    if generation == 0 {
        "(attribute_not_exists(generation) OR generation = :generation)"
    } else {
        "generation = :generation"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::derive(&SecretString::from(STANDARD.encode([byte; MATERIAL_BYTES]))).unwrap()
    }

    #[test]
    fn a_seal_opens_with_its_own_key_and_context_only() {
        let token = SecretString::from("bearer");
        let sealed = key(1).seal(&token, "slot#1").unwrap();
        assert_eq!(key(1).open(&sealed, "slot#1").unwrap().expose_secret(), "bearer");
        assert!(key(1).open(&sealed, "slot#2").is_none());
        assert!(key(2).open(&sealed, "slot#1").is_none());
        assert!(key(1).open("", "slot#1").is_none());
        assert!(!sealed.contains("bearer"));
        assert_ne!(
            sealed,
            key(1).seal(&token, "slot#1").unwrap(),
            "every seal has its own nonce"
        );
    }

    #[test]
    fn a_changed_byte_does_not_open() {
        let sealed = STANDARD
            .decode(key(1).seal(&SecretString::from("bearer"), "slot#1").unwrap())
            .unwrap();
        for position in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[position] ^= 1;
            assert!(
                key(1).open(&STANDARD.encode(&bent), "slot#1").is_none(),
                "byte {position}"
            );
        }
    }

    #[test]
    fn key_material_of_another_length_is_refused() {
        for material in ["", "not base64!", "c2hvcnQ="] {
            let problem = SealKey::derive(&SecretString::from(material)).err().unwrap();
            assert_eq!(problem.code, "TOKEN_KEY_INVALID");
        }
    }
}
