//! A simulated identity provider: it keeps its codes, checks who exchanges them, and signs with keys that it can change. It
//! answers as the network would, through the port of one HTTP exchange, and can be told to lie.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use connectors::http::transport::{Request, Response, Transport, TransportError};
use hmac::{Hmac, KeyInit, Mac};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Mutex;

pub(crate) const ISSUER: &str = "https://login.example.com/tenant/";
pub(crate) const CLIENT: &str = "qad coupa:page";
pub(crate) const CLIENT_SECRET: &str = "s+ecret/=:%";

/// Who signs a token, or pretends to.
pub(crate) enum Signer {
    /// The provider's key of this number.
    Own(usize),
    /// One of the keys that it shows for other purposes.
    Unfit(usize),
    /// A key that it has never shown, under this name.
    Stranger(String),
    /// Nobody: the algorithm `none`.
    Nobody,
    /// The published modulus of the first key as if it were a shared secret.
    Confused,
}

/// Changes header and claims of a token before it is signed, and says by whom.
type Forger = Box<dyn Fn(&mut Value, &mut Value) -> Signer + Send>;
/// Changes an answer: its path, status and body.
type Liar = Box<dyn Fn(&str, &mut Response) + Send>;

struct Key {
    name: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

struct Grant {
    challenge: String,
    nonce: String,
    redirect: String,
    claims: Value,
}

#[derive(Default)]
struct State {
    keys: Vec<Key>,
    unfit: Vec<(Key, Value)>,
    grants: BTreeMap<String, Grant>,
    made: usize,
    asked: Vec<String>,
    forger: Option<Forger>,
    liar: Option<Liar>,
    is_down: bool,
    takes_form: bool,
    names_itself: bool,
    now_seconds: i64,
    redirects: Vec<String>,
}

pub(crate) struct SimulatedProvider(Mutex<State>);

fn ec() -> Pair {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    Pair::Ec(EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &SystemRandom::new()).unwrap())
}

fn rsa() -> Pair {
    Pair::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("../keys/of-a-simulated-provider.pk8")).unwrap())
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn published(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": self.name, "use": "sig", "n": encoded(parts.n), "e": encoded(parts.e)})
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": self.name, "alg": "ES256",
                    "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
            }
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ec(pair) => pair
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
        }
    }
}

impl SimulatedProvider {
    pub(crate) fn new(now_seconds: i64) -> Self {
        let key = |name: &str, pair| Key {
            name: name.to_owned(),
            pair,
        };
        Self(Mutex::new(State {
            keys: vec![key("first", rsa()), key("second", ec())],
            unfit: vec![
                (key("sealing", ec()), json!({"use": "enc"})),
                (key("signing alone", ec()), json!({"key_ops": ["sign"]})),
                (key("another algorithm", ec()), json!({"alg": "ES384"})),
            ],
            now_seconds,
            redirects: vec!["https://page.example.com/login/back".to_owned()],
            ..State::default()
        }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn time_is(&self, seconds: i64) {
        self.state().now_seconds = seconds;
    }

    /// New keys from now on; the old ones are gone.
    pub(crate) fn rotate(&self, name: &str) {
        let name = name.to_owned();
        self.state().keys = vec![Key { name, pair: ec() }];
    }

    pub(crate) fn forge(&self, forger: impl Fn(&mut Value, &mut Value) -> Signer + Send + 'static) {
        self.state().forger = Some(Box::new(forger));
    }

    pub(crate) fn lie(&self, liar: impl Fn(&str, &mut Response) + Send + 'static) {
        self.state().liar = Some(Box::new(liar));
    }

    pub(crate) fn is_honest_again(&self) {
        let mut state = self.state();
        (state.forger, state.liar, state.is_down) = (None, None, false);
    }

    pub(crate) fn is_down(&self) {
        self.state().is_down = true;
    }

    pub(crate) fn takes_form(&self) {
        self.state().takes_form = true;
    }

    pub(crate) fn names_itself(&self) {
        self.state().names_itself = true;
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.state().asked.iter().filter(|asked| *asked == path).count()
    }

    /// What the browser does at the provider: the person signs in, and is sent back to the address this returns.
    pub(crate) fn sign_in(&self, url: &str, claims: Value) -> String {
        let (page, query) = url.split_once('?').unwrap();
        assert_eq!(page, "https://login.example.com/authorize");
        let asked: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
        let mut state = self.state();
        assert!(
            state.redirects.contains(&asked["redirect_uri"]),
            "{}",
            asked["redirect_uri"]
        );
        state.made += 1;
        let code = format!("code-{}", state.made);
        let grant = Grant {
            challenge: asked["code_challenge"].clone(),
            nonce: asked["nonce"].clone(),
            redirect: asked["redirect_uri"].clone(),
            claims,
        };
        state.grants.insert(code.clone(), grant);
        let mut back = form_urlencoded::Serializer::new(String::new());
        back.append_pair("code", &code)
            .append_pair("state", &asked["state"]);
        if state.names_itself {
            back.append_pair("iss", ISSUER);
        }
        format!("/login/back?{}", back.finish())
    }
}

impl State {
    fn document(&self) -> Value {
        let proof = if self.takes_form {
            "client_secret_post"
        } else {
            "client_secret_basic"
        };
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://login.example.com/authorize",
            "token_endpoint": "https://tokens.example.com/token/",
            "jwks_uri": "https://keys.example.com/keys?p=policy",
            "token_endpoint_auth_methods_supported": ["private_key_jwt", proof],
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": self.names_itself,
        })
    }

    fn keys(&self) -> Value {
        let mut keys = vec![
            json!({"kty": "quantum", "kid": "odd", "q": 1}),
            json!({"kty": "EC", "crv": "secp256k1", "kid": "odd", "x": "", "y": ""}),
            json!("not a key"),
            json!({"kty": "oct", "kid": "shared", "k": encoded("a secret that everybody knows")}),
        ];
        keys.extend(self.keys.iter().map(Key::published));
        keys.extend(self.unfit.iter().map(|(key, purpose)| {
            let mut published = key.published();
            for (name, value) in purpose.as_object().unwrap() {
                published[name] = value.clone();
            }
            published
        }));
        json!({"keys": keys})
    }

    fn token(&mut self, request: &Request) -> (u16, Value) {
        let body = request.body.clone().unwrap_or_default();
        let form: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
        let header = request.headers.iter().find(|(name, _)| name == "authorization");
        let proved = if self.takes_form {
            header.is_none()
                && form.get("client_id").is_some_and(|id| id == CLIENT)
                && form
                    .get("client_secret")
                    .is_some_and(|secret| secret == CLIENT_SECRET)
        } else {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(CLIENT), encode(CLIENT_SECRET));
            header.is_some_and(|(_, value)| *value == format!("Basic {}", STANDARD.encode(pair)))
        };
        if !proved {
            return (401, json!({"error": "invalid_client"}));
        }
        // A code is good for one exchange, whatever comes of it.
        let grant = form.get("code").and_then(|code| self.grants.remove(code));
        let is_good = |grant: &Grant| {
            let verifier = form.get("code_verifier").map_or("", String::as_str);
            (43..=128).contains(&verifier.len())
                && encoded(Sha256::digest(verifier)) == grant.challenge
                && form.get("redirect_uri") == Some(&grant.redirect)
                && form
                    .get("grant_type")
                    .is_some_and(|kind| kind == "authorization_code")
        };
        match grant.filter(is_good) {
            Some(grant) => {
                let token = self.signed(&grant);
                (
                    200,
                    json!({"id_token": token, "access_token": "opaque", "token_type": "Bearer", "expires_in": 300}),
                )
            }
            None => (400, json!({"error": "invalid_grant"})),
        }
    }

    fn signed(&self, grant: &Grant) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT, "sub": "0001", "nonce": grant.nonce,
            "iat": self.now_seconds, "exp": self.now_seconds + 300,
        });
        for (name, value) in grant.claims.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut header = json!({"typ": "JWT"});
        let signer = match &self.forger {
            Some(forger) => forger(&mut header, &mut claims),
            None => Signer::Own(0),
        };
        let mut fill = |name: &str, value: &str| {
            if header.get(name).is_none() {
                header[name] = json!(value);
            }
        };
        let stranger;
        let key = match signer {
            Signer::Own(number) => Some(&self.keys[number]),
            Signer::Unfit(number) => Some(&self.unfit[number].0),
            Signer::Stranger(name) => {
                stranger = Key { name, pair: ec() };
                Some(&stranger)
            }
            Signer::Nobody => {
                fill("alg", "none");
                None
            }
            Signer::Confused => {
                fill("alg", "HS256");
                fill("kid", "first");
                None
            }
        };
        if let Some(key) = key {
            fill("alg", key.algorithm());
            fill("kid", &key.name);
        }
        let is_nobody = header["alg"] == "none";
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = match key {
            Some(key) => key.sign(message.as_bytes()),
            None if is_nobody => vec![],
            None => {
                let modulus = match &self.keys[0].pair {
                    Pair::Rsa(pair) => RsaPublicKeyComponents::<Vec<u8>>::from(pair.public()).n,
                    Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
                };
                let mut mac = Hmac::<Sha256>::new_from_slice(&modulus).unwrap();
                mac.update(message.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
        };
        format!("{message}.{}", encoded(signature))
    }
}

#[async_trait]
impl Transport for SimulatedProvider {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let mut state = self.state();
        let path = request
            .url
            .split_once("example.com")
            .map_or("", |(_, path)| path)
            .to_owned();
        state.asked.push(path.clone());
        if state.is_down {
            return Err(TransportError::MaybeSent("no answer within 8000 ms".to_owned()));
        }
        let (status, body) = match (request.method.as_str(), path.as_str()) {
            ("GET", "/tenant/.well-known/openid-configuration") => (200, state.document()),
            ("GET", "/keys?p=policy") => (200, state.keys()),
            ("POST", "/token/") => state.token(&request),
            _ => (404, json!({})),
        };
        let mut response = Response {
            status,
            headers: vec![],
            body: body.to_string().into_bytes(),
        };
        if let Some(liar) = &state.liar {
            liar(&path, &mut response);
        }
        Ok(response)
    }
}
