//! Signing in as a browser does it, at a simulated provider: who is let in with what rights, and who is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

mod provider;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::ports::{Books, Chance, Clock, Hint, Queue, StoreError};
use oidc::{Provider, Roles, Settings};
use pages::{Console, IdentityProvider, Login, PlantClock, Returned, Seal};
use provider::{CLIENT, CLIENT_SECRET, ISSUER, Signer, SimulatedProvider};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tests::memory_register::MemoryRegister;

const HOST: &str = "page.example.com";
const START: i64 = 1_764_547_200_000;
const ROLES: &str = "clerk=AP clerks;approver=AP leads;controller=Controlling;auditor=Audit";

#[derive(Default)]
struct Fakes {
    now: AtomicI64,
    count: AtomicU64,
}

#[async_trait]
impl Clock for Fakes {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    async fn sleep(&self, _: Duration) {}
}

impl Chance for Fakes {
    fn token(&self) -> String {
        format!("token-{}", self.count.fetch_add(1, Ordering::Relaxed))
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

#[async_trait]
impl Queue for Fakes {
    async fn send(&self, _: &[Hint]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The page, its provider, and the time.
struct World {
    fakes: Arc<Fakes>,
    simulated: Arc<SimulatedProvider>,
    provider: Arc<Provider>,
    console: Arc<Console>,
}

fn settings() -> Settings {
    Settings {
        issuer: ISSUER.to_owned(),
        client_id: CLIENT.to_owned(),
        person_claim: "email".to_owned(),
        roles: Roles::new("groups", ROLES).unwrap(),
    }
}

impl World {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let fakes = Arc::new(Fakes::default());
        fakes.now.store(START, Ordering::Relaxed);
        let simulated = Arc::new(SimulatedProvider::new(START / 1_000));
        let provider = Provider::new(
            settings,
            SecretString::from(CLIENT_SECRET),
            Arc::<SimulatedProvider>::clone(&simulated),
            Arc::<Fakes>::clone(&fakes),
            Arc::<Fakes>::clone(&fakes),
        );
        let provider = Arc::new(provider.unwrap());
        let books: Arc<dyn Books> = Arc::new(MemoryRegister::new());
        let console = Console {
            kept: pages::Kept::default(),
            connections: BTreeMap::from([("acme".parse().unwrap(), books)]),
            login: Login::Provider(Arc::<Provider>::clone(&provider)),
            seal: Seal::new("a secret of this test"),
            hints: Arc::<Fakes>::clone(&fakes),
            clock: Arc::<Fakes>::clone(&fakes),
            chance: Arc::<Fakes>::clone(&fakes),
            timing: Timing::default(),
            zone: PlantClock::new("Europe/Berlin").unwrap(),
        };
        Self {
            fakes,
            simulated,
            provider,
            console: Arc::new(console),
        }
    }

    fn pass(&self, millis: i64) {
        let now = self.fakes.now.fetch_add(millis, Ordering::Relaxed) + millis;
        self.simulated.time_is(now / 1_000);
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let asked = request.uri().to_string();
        let response = self.console.answer(request).await;
        let headers = response.headers().clone();
        let all = |name| {
            let values = headers.get_all(name).iter();
            values
                .map(|value| value.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 22).await.unwrap();
        let answer = Answer {
            status,
            location: all(header::LOCATION).concat(),
            cookies: all(header::SET_COOKIE),
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        // What holds for every answer, whatever was asked.
        assert_eq!(all(header::CACHE_CONTROL), ["no-store"], "{asked}");
        let policy = all(header::CONTENT_SECURITY_POLICY).concat();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'"),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(all(header::STRICT_TRANSPORT_SECURITY).len() == 1, "{asked}");
        for cookie in &answer.cookies {
            assert!(cookie.starts_with("__Host-"), "{cookie}");
            for word in [
                "; Path=/",
                "; HttpOnly",
                "; SameSite=Lax",
                "; Secure",
                "; Max-Age=",
            ] {
                assert!(cookie.contains(word), "{cookie}");
            }
            assert!(!cookie.contains("Domain"), "{cookie}");
        }
        let is_refusal = status.is_client_error() || status.is_server_error();
        assert!(!is_refusal || answer.body.contains("<h1>"), "{asked}: {answer:?}");
        assert!(!answer.body.contains("<script"), "{asked}");
        answer
    }

    async fn get(&self, cookie: &str, path: &str) -> Answer {
        let request = Request::get(format!("https://{HOST}{path}"))
            .header(header::HOST, HOST)
            .header(header::COOKIE, cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, origin: &str, cookie: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = Request::post(format!("https://{HOST}{path}"))
            .header(header::HOST, HOST)
            .header(header::ORIGIN, origin)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Begins at a page, signs in with these claims, and comes back.
    async fn sign_in(&self, page: &str, claims: Value) -> Answer {
        let (back, flow) = self.until_back(page, claims).await;
        self.get(&flow, &back).await
    }

    /// The way back from the provider, and the cookie that the browser kept.
    async fn until_back(&self, page: &str, claims: Value) -> (String, String) {
        let asked = self.get("", page).await;
        assert_eq!(asked.status, StatusCode::SEE_OTHER);
        let begun = self.get("", &asked.location).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
        (
            self.simulated.sign_in(&begun.location, claims),
            begun.cookie("__Host-f"),
        )
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    location: String,
    cookies: Vec<String>,
    body: String,
}

impl Answer {
    /// A cookie as a browser sends it back; empty when it was not set or taken away.
    fn cookie(&self, name: &str) -> String {
        let start = format!("{name}=");
        let set = self.cookies.iter().find(|cookie| cookie.starts_with(&start));
        let pair = set
            .and_then(|cookie| cookie.split(';').next())
            .unwrap_or_default();
        if pair == start {
            String::new()
        } else {
            pair.to_owned()
        }
    }

    fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.body.split(&start).nth(1);
        rest.and_then(|rest| rest.split('"').next())
            .unwrap_or_default()
            .to_owned()
    }
}

fn dana() -> Value {
    json!({"email": "Dana@example.com", "email_verified": true, "name": "Dana <b>Smith</b>", "groups": ["AP clerks"]})
}

#[tokio::test]
async fn who_signs_in_comes_back_to_the_page_he_asked_for_with_his_roles() {
    let world = World::new();
    let page = "/invoices?view=needs-you&code=PRICE_OVER_TOLERANCE";
    let entered = world.sign_in(page, dana()).await;
    assert_eq!(
        (entered.status, entered.location.as_str()),
        (StatusCode::SEE_OTHER, page)
    );
    assert!(
        entered
            .cookies
            .iter()
            .any(|cookie| cookie.starts_with("__Host-f=;")),
        "the login is over"
    );
    let cookie = entered.cookie("__Host-s");
    assert!(!cookie.is_empty() && !cookie.to_lowercase().contains("dana"));
    let shown = world.get(&cookie, page).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(
        shown.body.contains("Dana &lt;b&gt;Smith&lt;/b&gt; (clerk)"),
        "{}",
        shown.body
    );
    assert_eq!(world.simulated.asked("/token/"), 1);
    let again = world.sign_in("/", dana()).await;
    assert_eq!(again.location, "/");
    let once = ["/tenant/.well-known/openid-configuration", "/keys?p=policy"]
        .map(|path| world.simulated.asked(path));
    assert_eq!(once, [1, 1], "document and keys are kept");
}

#[tokio::test]
async fn the_person_in_the_audit_trail_is_the_address_that_the_provider_vouches_for() {
    let world = World::new();
    let redirect = format!("https://{HOST}/login/back");
    let finish = async |claims: Value| {
        let started = world.provider.begin(&redirect).await.unwrap();
        let back = world.simulated.sign_in(&started.url, claims);
        let code = form_urlencoded::parse(back.split_once('?').unwrap().1.as_bytes())
            .find(|(name, _)| name == "code")
            .unwrap()
            .1
            .into_owned();
        let returned = Returned {
            code: SecretString::from(code),
            issuer: None,
        };
        world.provider.finish(&started, returned, &redirect).await
    };
    let person = finish(dana()).await.unwrap().person;
    assert_eq!(person.by, "oidc:login.example.com/dana@example.com");
    let mut long = dana();
    long["name"] = json!("\u{202e}x".repeat(5_000));
    let name = finish(long).await.unwrap().person.name;
    assert_eq!(name.chars().count(), 100, "a name that a cookie holds: {name}");
    for claims in [
        json!({"groups": ["AP clerks"]}),
        json!({"groups": ["AP clerks"], "email": "dana@example.com"}),
        json!({"groups": ["AP clerks"], "email": "dana@example.com", "email_verified": false}),
        json!({"groups": ["AP clerks"], "email": "x/sam@example.com", "email_verified": true}),
    ] {
        assert_eq!(finish(claims).await.unwrap_err().code, "OIDC_PERSON_UNKNOWN");
    }
}

#[tokio::test]
async fn roles_come_from_the_map_and_nobody_enters_without_one() {
    let world = World::new();
    for (groups, shown) in [
        (json!(["AP leads", "AP clerks", "All staff"]), "(clerk, approver)"),
        (json!("Controlling"), "(controller)"),
        (json!(["Audit"]), "(auditor)"),
    ] {
        let entered = world
            .sign_in(
                "/",
                json!({"email": "a@example.com", "email_verified": true, "groups": groups}),
            )
            .await;
        let page = world.get(&entered.cookie("__Host-s"), "/").await;
        assert!(page.body.contains(&format!("a@example.com {shown}")), "{groups}");
    }
    for groups in [
        json!([]),
        json!(["All staff"]),
        json!(["clerk", "admin"]),
        json!({"AP clerks": true}),
        Value::Null,
    ] {
        let claims =
            json!({"email": "a@example.com", "email_verified": true, "groups": groups, "roles": ["clerk"]});
        let refused = world.sign_in("/", claims).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{groups}");
        assert!(refused.body.contains("has no role here"), "{}", refused.body);
        assert_eq!(refused.cookie("__Host-s"), "", "{groups}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_the_providers_for_us_of_this_login_and_in_time_lets_nobody_in() {
    let own = || Signer::Own(0);
    type Forgery = (&'static str, Box<dyn Fn(&mut Value, &mut Value) -> Signer + Send>);
    let claim = |name: &'static str, value: Value| -> Forgery {
        let told = Box::leak(format!("{name} = {value}").into_boxed_str());
        let forger = move |_: &mut Value, claims: &mut Value| {
            claims[name] = value.clone();
            own()
        };
        (told, Box::new(forger))
    };
    let gone = |name: &'static str| -> Forgery {
        let forger = move |_: &mut Value, claims: &mut Value| {
            claims.as_object_mut().unwrap().remove(name);
            own()
        };
        (name, Box::new(forger))
    };
    let head = |told: &'static str, header: Value, signer: fn() -> Signer| -> Forgery {
        let forger = move |of_token: &mut Value, _: &mut Value| {
            *of_token = header.clone();
            signer()
        };
        (told, Box::new(forger))
    };
    let now = START / 1_000;
    let forgeries: Vec<Forgery> = vec![
        claim("iss", json!("https://login.example.com/tenant")),
        claim("iss", json!("https://evil.example")),
        claim("iss", json!([ISSUER])),
        claim("iss", json!([ISSUER, "https://evil.example"])),
        gone("iss"),
        claim("aud", json!("another client")),
        claim("aud", json!(["another client"])),
        claim("aud", json!([CLIENT, "another client"])),
        claim("aud", json!([])),
        gone("aud"),
        claim("azp", json!("another client")),
        claim("azp", json!(7)),
        claim("exp", json!(now - 120)),
        claim("exp", json!(now - 86_400)),
        claim("exp", json!("tomorrow")),
        claim("exp", json!(-1)),
        claim("exp", json!(i64::MIN)),
        gone("exp"),
        claim("iat", json!(now + 121)),
        claim("iat", json!(i64::MAX)),
        gone("iat"),
        claim("nbf", json!(now + 121)),
        claim("nonce", json!("another login's")),
        claim("nonce", json!("")),
        gone("nonce"),
        ("nobody", Box::new(|_, _| Signer::Nobody)),
        ("confused", Box::new(|_, _| Signer::Confused)),
        ("a stranger", Box::new(|_, _| Signer::Stranger("stranger".into()))),
        (
            "a stranger under our key's name",
            Box::new(|_, _| Signer::Stranger("second".into())),
        ),
        (
            "a stranger under the RSA key's name",
            Box::new(|_, _| Signer::Stranger("first".into())),
        ),
        ("a key for sealing", Box::new(|_, _| Signer::Unfit(0))),
        ("a key that verifies nothing", Box::new(|_, _| Signer::Unfit(1))),
        ("a key of another algorithm", Box::new(|_, _| Signer::Unfit(2))),
        head("none, signed", json!({"alg": "none", "kid": "first"}), own),
        head("HS256, signed", json!({"alg": "HS256", "kid": "first"}), own),
        head(
            "HS256 with a shared secret",
            json!({"alg": "HS256", "kid": "shared"}),
            own,
        ),
        head("RS512", json!({"alg": "RS512", "kid": "first"}), own),
        head("PS256", json!({"alg": "PS256", "kid": "first"}), own),
        head(
            "ES256 for an RSA key",
            json!({"alg": "ES256", "kid": "first"}),
            own,
        ),
        head(
            "RS256 for an EC key",
            json!({"alg": "RS256", "kid": "second"}),
            || Signer::Own(1),
        ),
        head(
            "the other key's name",
            json!({"alg": "RS256", "kid": "second"}),
            own,
        ),
        head(
            "a key of its own",
            json!({"alg": "ES256", "kid": "x", "jku": "https://evil.example/keys"}),
            || Signer::Stranger("x".into()),
        ),
        head(
            "an extension",
            json!({"alg": "RS256", "kid": "first", "crit": ["exp"], "exp": 1}),
            own,
        ),
        head("a name that is no text", json!({"alg": "RS256", "kid": 7}), own),
        head("no name, and two keys", json!({"alg": "RS256", "kid": null}), own),
    ];
    let world = World::new();
    for (told, forger) in forgeries {
        world.simulated.forge(forger);
        let refused = world.sign_in("/", dana()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{told}: {}", refused.body);
        assert!(
            refused.body.contains("OIDC_TOKEN_REFUSED"),
            "{told}: {}",
            refused.body
        );
        assert_eq!(refused.cookie("__Host-s"), "", "{told}");
        world.simulated.is_honest_again();
        assert_eq!(world.sign_in("/", dana()).await.location, "/", "after {told}");
    }
}

#[tokio::test]
async fn what_a_provider_may_do_lets_people_in() {
    let now = START / 1_000;
    let world = World::new();
    let same = |claims: Value| {
        move |_: &mut Value, of_token: &mut Value| {
            for (name, value) in claims.as_object().unwrap() {
                of_token[name] = value.clone();
            }
            Signer::Own(0)
        }
    };
    for claims in [
        json!({"aud": [CLIENT]}),
        json!({"aud": [CLIENT, "another client"], "azp": CLIENT}),
        json!({"azp": CLIENT}),
        json!({"exp": now - 119}),
        json!({"iat": now + 120, "nbf": now - 60}),
    ] {
        world.simulated.forge(same(claims.clone()));
        assert_eq!(world.sign_in("/", dana()).await.location, "/", "{claims}");
    }
    world.simulated.forge(|_, _| Signer::Own(1));
    assert_eq!(world.sign_in("/", dana()).await.location, "/", "ES256");
}

#[tokio::test]
async fn no_byte_of_a_token_can_be_changed() {
    let world = World::new();
    let place = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&place);
    world.simulated.lie(move |path, response| {
        if path != "/token/" {
            return;
        }
        let mut answer: Value = serde_json::from_slice(&response.body).unwrap();
        let mut token = answer["id_token"].as_str().unwrap().to_owned().into_bytes();
        let place = at.load(Ordering::Relaxed).min(token.len() - 2);
        token[place] = if token[place] == b'A' { b'h' } else { b'A' };
        answer["id_token"] = json!(String::from_utf8(token).unwrap());
        response.body = answer.to_string().into_bytes();
    });
    for changed in (0..900).step_by(3) {
        place.store(changed, Ordering::Relaxed);
        let refused = world.sign_in("/", dana()).await;
        assert_eq!(
            refused.status,
            StatusCode::FORBIDDEN,
            "{changed}: {}",
            refused.body
        );
        assert_eq!(refused.cookie("__Host-s"), "", "{changed}");
    }
}

#[tokio::test]
async fn keys_are_followed_when_they_change_and_not_asked_for_without_end() {
    let world = World::new();
    let keys = || world.simulated.asked("/keys?p=policy");
    assert_eq!(world.sign_in("/", dana()).await.location, "/");
    world.simulated.rotate("third");
    world.pass(oidc::KEYS_AGAIN_MILLIS);
    assert_eq!(
        world.sign_in("/", dana()).await.location,
        "/",
        "a new key, a minute later"
    );
    assert_eq!(keys(), 2);
    world.simulated.forge(|_, _| Signer::Stranger("stranger".into()));
    for _ in 0..20 {
        assert_eq!(world.sign_in("/", dana()).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(keys(), 2, "a name that is not there is looked for once a minute");
    world.pass(oidc::KEYS_AGAIN_MILLIS);
    world.sign_in("/", dana()).await;
    assert_eq!(keys(), 3);
    world.simulated.is_honest_again();
    world.pass(oidc::KEPT_MILLIS);
    assert_eq!(world.sign_in("/", dana()).await.location, "/");
    assert_eq!(keys(), 4, "after an hour they are read again");
    // A provider with one key need not name it.
    world.simulated.forge(|header, _| {
        header["kid"] = Value::Null;
        Signer::Own(0)
    });
    assert_eq!(world.sign_in("/", dana()).await.location, "/");
}

#[tokio::test]
async fn a_way_back_is_good_once_in_the_browser_that_began_it_and_for_ten_minutes() {
    let world = World::new();
    let (back, flow) = world.until_back("/", dana()).await;
    let (other_back, other_flow) = world.until_back("/month", dana()).await;
    let state = back.split_once("&state=").unwrap().1;
    let exchanged = || world.simulated.asked("/token/");
    for (told, cookie, path) in [
        ("no cookie", String::new(), back.clone()),
        ("another browser's", other_flow.clone(), back.clone()),
        ("no state", flow.clone(), back.replace("&state=", "&stat=")),
        ("another state", flow.clone(), back.replace(state, "0000")),
        (
            "a session is no login",
            flow.replace("__Host-f", "__Host-s"),
            back.clone(),
        ),
        ("touched", format!("{flow}A"), back.clone()),
        (
            "the local name",
            flow.replace("__Host-f", "qad-coupa-f"),
            back.clone(),
        ),
    ] {
        let refused = world.get(&cookie, &path).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{told}: {}",
            refused.body
        );
        assert_eq!(refused.cookie("__Host-s"), "", "{told}");
    }
    assert_eq!(exchanged(), 0, "nothing was asked of the provider");
    assert_eq!(world.get(&flow, &back).await.location, "/");
    let replayed = world.get(&flow, &back).await;
    assert_eq!(
        replayed.status,
        StatusCode::FORBIDDEN,
        "the provider takes a code once"
    );
    assert_eq!(replayed.cookie("__Host-s"), "");
    // One person's code in another's login: the provider compares the verifier.
    let code = other_back.split(['?', '&']).nth(1).unwrap();
    let (own_back, own_flow) = world.until_back("/", dana()).await;
    let own_code = own_back.split(['?', '&']).nth(1).unwrap().to_owned();
    let injected = world.get(&own_flow, &own_back.replace(&own_code, code)).await;
    assert_eq!(injected.status, StatusCode::FORBIDDEN, "{}", injected.body);
    let (late_back, late_flow) = world.until_back("/", dana()).await;
    world.pass(600_000);
    assert_eq!(
        world.get(&late_flow, &late_back).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_refusal_of_the_provider_has_its_page() {
    let world = World::new();
    let (back, flow) = world.until_back("/", dana()).await;
    let state = back.split_once("&state=").unwrap().1;
    let refused = world
        .get(
            &flow,
            &format!("/login/back?error=access_denied%3Cscript%3E&state={state}"),
        )
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("did not sign you in"));
}

#[tokio::test]
async fn after_a_login_nobody_is_sent_elsewhere() {
    let world = World::new();
    for to in [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        "/\u{2028}x",
        "evil.example",
        "",
        "/login?to=//evil.example",
        "/\r\nSet-Cookie: x=1",
        &format!("/{}", "x".repeat(2_000)),
    ] {
        let encoded: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let begun = world.get("", &format!("/login?to={encoded}")).await;
        if begun.status != StatusCode::SEE_OTHER {
            assert_eq!(begun.status, StatusCode::URI_TOO_LONG, "{to:?}");
            continue;
        }
        let back = world.simulated.sign_in(&begun.location, dana());
        let entered = world.get(&begun.cookie("__Host-f"), &back).await;
        assert_eq!(
            (entered.status, entered.location.as_str()),
            (StatusCode::SEE_OTHER, "/"),
            "{to:?}"
        );
    }
    let long = format!("/invoices?view=needs-you&supplier={}", "x".repeat(800));
    assert_eq!(
        world.sign_in(&long, dana()).await.location,
        long,
        "a long one of our own"
    );
}

#[tokio::test]
async fn a_provider_that_fails_or_lies_about_itself_lets_nobody_in_and_has_its_page() {
    let document = |field: &'static str, value: Value| {
        move |path: &str, response: &mut connectors::http::transport::Response| {
            if path.ends_with("openid-configuration") {
                let mut told: Value = serde_json::from_slice(&response.body).unwrap();
                told[field] = value.clone();
                response.body = told.to_string().into_bytes();
            }
        }
    };
    for (field, value) in [
        ("issuer", json!("https://login.example.com/tenant")),
        ("issuer", json!("https://login.example.com/{tenantid}/")),
        ("issuer", Value::Null),
        (
            "authorization_endpoint",
            json!("http://login.example.com/authorize"),
        ),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        (
            "authorization_endpoint",
            json!("https://login.example.com/a\r\nSet-Cookie: x=1"),
        ),
        (
            "authorization_endpoint",
            json!("https://user@login.example.com/authorize"),
        ),
        ("token_endpoint", json!("http://127.0.0.1:9/token")),
        ("token_endpoint", json!("https://127.0.0.1/token")),
        ("token_endpoint", json!("https://localhost/token")),
        ("token_endpoint", json!("https://[::1]/token")),
        ("token_endpoint", json!("https://tokens.example.com/#x")),
        ("token_endpoint", json!("https://tokens.example.com/?a=1#x")),
        ("token_endpoint", json!("/token")),
        ("jwks_uri", json!("file:///etc/passwd")),
        (
            "jwks_uri",
            json!(format!("https://keys.example.com/{}", "x".repeat(3_000))),
        ),
        ("jwks_uri", json!(["https://keys.example.com/"])),
        ("code_challenge_methods_supported", json!(["plain"])),
        (
            "token_endpoint_auth_methods_supported",
            json!(["private_key_jwt"]),
        ),
    ] {
        let world = World::new();
        world.simulated.lie(document(field, value.clone()));
        let refused = world.get("", "/login").await;
        assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{field} = {value}");
        assert_eq!(
            (refused.location.as_str(), refused.cookies.len()),
            ("", 0),
            "{field} = {value}"
        );
        world.simulated.is_honest_again();
        assert_eq!(
            world.sign_in("/", dana()).await.location,
            "/",
            "nothing of a lie is kept"
        );
    }
    for of in ["openid-configuration", "/token/", "/keys?p=policy"] {
        for (status, body) in [
            (200, "<html>down</html>".to_owned()),
            (200, String::new()),
            (200, "{}".to_owned()),
            (200, format!("{{\"keys\":[], \"x\":\"{}\"}}", "x".repeat(300_000))),
            (200, "[".repeat(100_000)),
            (302, String::new()),
            (404, String::new()),
            (429, String::new()),
            (500, "<script>alert(1)</script>".to_owned()),
            (503, String::new()),
        ] {
            let world = World::new();
            let lie = body.clone();
            world.simulated.lie(move |path, response| {
                if path.ends_with(of) {
                    (response.status, response.body) = (status, lie.clone().into_bytes());
                }
            });
            let refused = if of == "openid-configuration" {
                world.get("", "/login").await
            } else {
                world.sign_in("/", dana()).await
            };
            let expected = if of == "/token/" && (400..500).contains(&status) {
                StatusCode::FORBIDDEN
            } else {
                StatusCode::BAD_GATEWAY
            };
            assert_eq!(
                refused.status,
                expected,
                "{of} {status} {}",
                &body.get(..20).unwrap_or(&body)
            );
            assert_eq!(refused.cookie("__Host-s"), "");
        }
    }
    let world = World::new();
    world.simulated.is_down();
    assert_eq!(world.get("", "/login").await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_way_back_from_another_issuer_is_refused() {
    let world = World::new();
    let (back, flow) = world.until_back("/", dana()).await;
    let mixed = world
        .get(&flow, &format!("{back}&iss=https%3A%2F%2Fevil.example"))
        .await;
    assert_eq!(mixed.status, StatusCode::BAD_GATEWAY, "{}", mixed.body);
    assert_eq!(world.simulated.asked("/token/"), 0, "no code is given to anybody");
    let world = World::new();
    world.simulated.names_itself();
    assert_eq!(world.sign_in("/", dana()).await.location, "/");
    let (back, flow) = world.until_back("/", dana()).await;
    let unnamed = back.split_once("&iss=").unwrap().0;
    assert_eq!(world.get(&flow, unnamed).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn the_page_proves_itself_the_way_the_provider_asks_for() {
    let world = World::new();
    world.simulated.takes_form();
    assert_eq!(world.sign_in("/", dana()).await.location, "/");
}

#[tokio::test]
async fn a_session_ends_by_age_by_idleness_and_by_signing_out() {
    let world = World::new();
    let cookie = world.sign_in("/", dana()).await.cookie("__Host-s");
    let page = world.get(&cookie, "/").await;
    let token = page.field("t");
    let origin = format!("https://{HOST}");
    for (origin, cookie, token) in [
        ("https://evil.example", cookie.as_str(), token.as_str()),
        ("http://page.example.com", &cookie, &token),
        ("null", &cookie, &token),
        (&origin, &cookie, ""),
        (&origin, &cookie, "0000"),
    ] {
        let refused = world.post(origin, cookie, "/out", &[("t", token)]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{origin} {token}");
        assert!(
            refused
                .cookies
                .iter()
                .all(|cookie| !cookie.starts_with("__Host-s=;"))
        );
    }
    let by_link = world.get(&cookie, "/out").await;
    assert_eq!(by_link.status, StatusCode::METHOD_NOT_ALLOWED);
    let out = world.post(&origin, &cookie, "/out", &[("t", &token)]).await;
    assert_eq!(out.status, StatusCode::OK);
    assert!(
        out.cookies
            .iter()
            .any(|cookie| cookie.starts_with("__Host-s=;") && cookie.contains("Max-Age=0"))
    );

    let mut cookie = world.sign_in("/", dana()).await.cookie("__Host-s");
    world.pass(3_600_000);
    assert_eq!(
        world.get(&cookie, "/").await.status,
        StatusCode::SEE_OTHER,
        "idle for an hour"
    );
    cookie = world.sign_in("/", dana()).await.cookie("__Host-s");
    for quarter in 1..=40 {
        world.pass(900_000);
        let page = world.get(&cookie, "/").await;
        assert_eq!(
            page.status == StatusCode::OK,
            quarter < 32,
            "after {quarter} quarters of an hour"
        );
        if !page.cookie("__Host-s").is_empty() {
            cookie = page.cookie("__Host-s");
        }
    }
    let late = world
        .post(&origin, &cookie, "/invoices/7/skip", &[("t", &token)])
        .await;
    assert_eq!(
        (late.status, late.location.as_str()),
        (StatusCode::UNAUTHORIZED, "")
    );
}

#[tokio::test]
async fn a_person_cannot_be_chosen_where_people_sign_in() {
    let world = World::new();
    let origin = format!("https://{HOST}");
    let chosen = world
        .post(&origin, "", "/login", &[("person", "0"), ("to", "/")])
        .await;
    assert_eq!((chosen.status, chosen.cookies.len()), (StatusCode::NOT_FOUND, 0));
}

#[tokio::test]
async fn hostile_cookies_addresses_and_forms_have_their_page() {
    let world = World::new();
    let good = world.sign_in("/", dana()).await.cookie("__Host-s");
    let value = good.split_once('=').unwrap().1;
    let long = "A".repeat(20_000);
    for cookie in [
        "__Host-s=",
        "__Host-s",
        "__Host-s==",
        "__Host-s=AAAA",
        &format!("__Host-s={long}"),
        &format!("__Host-s={value}A"),
        &format!("__Host-s={}", &value[1..]),
        &format!("__Host-s=x; __Host-s={value}"),
        &format!("__host-s={value}"),
        &format!("__Host-f={value}"),
        &format!("qad-coupa-s={value}"),
        "__Host-s=%00%ff; ;;=;=",
    ] {
        for path in ["/", "/login/back?code=x&state=y", "/invoices/7"] {
            let answer = world.get(cookie, path).await;
            let is_led_away =
                answer.status == StatusCode::SEE_OTHER || answer.status == StatusCode::BAD_REQUEST;
            assert!(is_led_away, "{cookie} {path}: {}", answer.status);
        }
    }
    for (path, status) in [
        (format!("/find?q={}", "x".repeat(10_000)), 414),
        (format!("/find?q={}", "%F0%9F%92%A9".repeat(100)), 200),
        ("/find?q=%FF%FE".to_owned(), 200),
        ("/find?q=%".to_owned(), 200),
        ("/find?q=a&q=b".to_owned(), 200),
        ("/find?q=%00%0A%1B".to_owned(), 200),
        ("/invoices?view=%FF".to_owned(), 404),
        ("/invoices/%FF".to_owned(), 400),
        ("/invoices/%2e%2e%2f".to_owned(), 404),
        ("/help/%3Cscript%3E".to_owned(), 404),
        ("/month/9999-99".to_owned(), 404),
        ("/c/%FF/".to_owned(), 404),
        ("/c//".to_owned(), 404),
        ("/c/acme".to_owned(), 200),
        ("/c/acme//".to_owned(), 404),
        ("/login/back".to_owned(), 400),
        ("/login/back?code&state&error".to_owned(), 400),
        ("/login?to".to_owned(), 303),
    ] {
        assert_eq!(
            world.get(&good, &path).await.status.as_u16(),
            status,
            "{}",
            &path.get(..40).unwrap_or(&path)
        );
    }
    let origin = format!("https://{HOST}");
    let form = "application/x-www-form-urlencoded";
    for (kind, body, status) in [
        (form, "x".repeat(20_000), 413),
        (form, "%FF=%FE&t=%00".to_owned(), 403),
        (form, "t=a&t=b&t=c".to_owned(), 403),
        (form, String::new(), 403),
        ("application/json", "{}".to_owned(), 415),
        ("multipart/form-data; boundary=x", "--x--".to_owned(), 415),
        ("", "t=1".to_owned(), 415),
    ] {
        for path in [
            "/invoices/7/skip",
            "/invoices/7/recheck",
            "/invoices/recheck",
            "/month/2026-11",
            "/out",
        ] {
            let request = Request::post(format!("https://{HOST}{path}"))
                .header(header::HOST, HOST)
                .header(header::ORIGIN, &origin)
                .header(header::COOKIE, &good)
                .header(header::CONTENT_TYPE, kind);
            let answer = world.send(request.body(Body::from(body.clone())).unwrap()).await;
            assert_eq!(
                answer.status.as_u16(),
                status,
                "{path} {kind} {}",
                &body.get(..20).unwrap_or(&body)
            );
        }
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{HOST}/invoices/7/skip"))
            .header(header::HOST, HOST)
            .header(header::ORIGIN, &origin)
            .header(header::COOKIE, &good);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}

#[tokio::test]
async fn a_host_that_is_none_begins_no_login() {
    let world = World::new();
    for host in [
        "page.example.com/evil",
        "a b",
        "user@page.example.com",
        "x?y",
        "\u{e9}",
    ] {
        let request = Request::get("https://page.example.com/login").header(
            header::HOST,
            axum::http::HeaderValue::from_bytes(host.as_bytes()).unwrap(),
        );
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (answer.status, answer.cookies.len()),
            (StatusCode::BAD_REQUEST, 0),
            "{host}"
        );
    }
}

#[test]
fn an_issuer_without_tls_is_refused_at_the_start() {
    for issuer in [
        "http://login.example.com",
        "login.example.com",
        "ftp://x",
        "",
        "https://u:p@login.example.com",
    ] {
        let settings = Settings {
            issuer: issuer.to_owned(),
            ..settings()
        };
        let fakes = Arc::new(Fakes::default());
        let made = Provider::new(
            settings,
            SecretString::from("x"),
            Arc::new(SimulatedProvider::new(0)),
            Arc::<Fakes>::clone(&fakes),
            fakes,
        );
        let problem = made.err().unwrap();
        assert_eq!(problem.code, "OIDC_DISCOVERY_INVALID", "{issuer}");
    }
}
