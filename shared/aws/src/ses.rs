//! Mail by Amazon SES: one request of its JSON interface (version 2), signed here: a generated client of all
//! of SES would be compiled for one operation.
//!
//! Who sends it is up to the caller: this crate opens no connection of its own beside the SDK's.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use domain::problem::{Problem, clean};
use domain::time::Timestamp;
use flows::daily_mail::Mail;
use flows::ports::WriteError;
use serde_json::json;
use std::time::{Duration, UNIX_EPOCH};

/// SES's name in signatures.
const SERVICE: &str = "ses";
/// The path of the one operation.
const PATH: &str = "/v2/email/outbound-emails";
/// Status codes that say that the mail was not taken and may be later: too many requests, and credentials that have run out.
const LATER: [u16; 2] = [403, 429];

/// From whom to whom, and where SES counts what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's address, of an identity that SES has verified.
    pub from: String,
    /// The receivers' addresses.
    pub to: Vec<String>,
    /// The configuration set.
    pub configuration_set: String,
}

/// Signs requests to SES.
pub struct Ses {
    region: String,
    credentials: Credentials,
}

/// A request, ready to be sent once.
pub struct Signed {
    /// SES's address in the region, without a path.
    pub base: String,
    /// The whole address.
    pub url: String,
    /// All headers beside those that the transport adds by itself.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Ses {
    pub(crate) fn new(region: String, credentials: Credentials) -> Self {
        Self { region, credentials }
    }

    /// The request that sends a mail.
    ///
    /// # Errors
    /// It cannot be signed: nothing was sent.
    pub fn request(&self, envelope: &Envelope, mail: &Mail, now: Timestamp) -> Result<Signed, Problem> {
        let defect = |error: String| {
            Problem::new(
                "SES_REQUEST_INVALID",
                "This is a defect: report it with this line.",
            )
            .actual(error)
        };
        let base = format!("https://email.{}.amazonaws.com", self.region);
        let url = format!("{base}{PATH}");
        let text = |text: &str| json!({ "Data": text, "Charset": "UTF-8" });
        let body = json!({
            "FromEmailAddress": envelope.from,
            "Destination": { "ToAddresses": envelope.to },
            "Content": { "Simple": { "Subject": text(&mail.subject), "Body": { "Text": text(&mail.text) } } },
            "ConfigurationSetName": envelope.configuration_set,
        });
        let body = body.to_string().into_bytes();
        let identity = self.credentials.clone().into();
        let millis = u64::try_from(now.0).unwrap_or(0);
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(
                UNIX_EPOCH
                    .checked_add(Duration::from_millis(millis))
                    .unwrap_or(UNIX_EPOCH),
            )
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| defect(error.to_string()))?
            .into();
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let named = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new("POST", url.as_str(), named, SignableBody::Bytes(&body))
            .map_err(|error| defect(error.to_string()))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| defect(error.to_string()))?
            .into_parts();
        headers.extend(
            instructions
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        Ok(Signed {
            base,
            url,
            headers,
            body,
        })
    }
}

/// What SES's answer says of a mail. An answer of the server's that says nothing may come after the mail was taken.
///
/// # Errors
/// It was not taken, or it is not known whether it was.
#[expect(
    clippy::result_large_err,
    reason = "once a day; it is what the port of mails answers"
)]
pub fn judge(status: u16, body: &[u8]) -> Result<(), WriteError> {
    let problem = |code: &str, fix: &str| {
        let said: String = clean(&String::from_utf8_lossy(body));
        Problem::new(code, fix)
            .field("SendEmail")
            .expected("200")
            .actual(format!("{status} {said}"))
    };
    match status {
        200 => Ok(()),
        status if LATER.contains(&status) => Err(WriteError::NotApplied {
            retry_after: None,
            problem: problem(
                "SES_REFUSED",
                "Look at the sending quota of SES and at the function's permissions; what AWS says is in 'actual'.",
            ),
        }),
        400..=499 => Err(WriteError::Refused(problem(
            "SES_REFUSED",
            "Verify the sender's identity in SES, leave its sandbox or verify the receivers, and look at the addresses.",
        ))),
        _ => Err(WriteError::Unknown(problem(
            "SES_UNAVAILABLE",
            "It is not known whether the mail of the day was sent; it is not sent again. Look at the page.",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(text: &str, to: &str) -> Signed {
        let ses = Ses::new(
            "eu-central-1".to_owned(),
            Credentials::new("id", "key", Some("session".to_owned()), None, "test"),
        );
        let envelope = Envelope {
            from: "ap@example.com".to_owned(),
            to: vec![to.to_owned()],
            configuration_set: "mail".to_owned(),
        };
        let mail = Mail {
            subject: "Ünicode \"quoted\"\r\nBcc: evil@example.com".to_owned(),
            text: text.to_owned(),
        };
        ses.request(&envelope, &mail, Timestamp(1_764_547_200_000))
            .unwrap()
    }

    fn header<'s>(signed: &'s Signed, name: &str) -> &'s str {
        let found = signed.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    #[test]
    fn a_mail_is_one_signed_request_of_json() {
        let one = signed("hello", "clerk@example.com");
        assert_eq!(
            one.url,
            "https://email.eu-central-1.amazonaws.com/v2/email/outbound-emails"
        );
        let authorization = header(&one, "authorization");
        assert!(
            authorization
                .starts_with("AWS4-HMAC-SHA256 Credential=id/20251201/eu-central-1/ses/aws4_request"),
            "{authorization}"
        );
        assert_eq!(header(&one, "x-amz-security-token"), "session");
        let body: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
        assert_eq!(body["Content"]["Simple"]["Body"]["Text"]["Data"], "hello");
        assert_eq!(body["Destination"]["ToAddresses"][0], "clerk@example.com");
        assert_ne!(
            authorization,
            header(&signed("other", "clerk@example.com"), "authorization")
        );
    }

    #[test]
    fn what_an_answer_proves_is_told() {
        assert_eq!(judge(200, b"{}"), Ok(()));
        for status in [403, 429] {
            assert!(
                matches!(judge(status, b""), Err(WriteError::NotApplied { .. })),
                "{status}"
            );
        }
        for status in [400, 404, 413] {
            assert!(
                matches!(judge(status, b""), Err(WriteError::Refused(_))),
                "{status}"
            );
        }
        for status in [100, 204, 301, 500, 503] {
            assert!(
                matches!(judge(status, b"x"), Err(WriteError::Unknown(_))),
                "{status}"
            );
        }
        let refused = judge(400, br#"{"message":"Email address is not verified."}"#).unwrap_err();
        assert!(
            refused.problem().to_string().contains("not verified"),
            "{refused}"
        );
    }
}
