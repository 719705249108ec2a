//! The alarms of a stack: whether they are there, what they say now, and whether anybody hears them.

use super::{Findings, Verdict};
use crate::Failure;
use crate::place::{refused, variable};
use aws::clock::SystemClock;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use connectors::http::address::BaseUrl;
use connectors::http::outbound::{Destination, Network};
use connectors::http::route::Route;
use connectors::http::transport::{HttpTransport, Method, Request, Transport};
use domain::problem::{Problem, clean};
use flows::ports::Clock;
use hyper_util::client::proxy::matcher::Matcher;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// Alarms of one page of CloudWatch's answer, and most pages that are read.
const PAGE_ALARMS: u32 = 100;
const PAGES_MAX: usize = 20;
/// The operation as CloudWatch's JSON protocol names it.
const DESCRIBE_ALARMS: &str = "GraniteServiceVersion20100801.DescribeAlarms";
/// CloudWatch's name in signatures, and the variable by which every AWS tool takes another address of it.
const SERVICE: &str = "monitoring";
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL"];
/// What the regions of China begin with, and what the names of AWS end with there and elsewhere.
const CHINA: &str = "cn-";
const SUFFIX_OF_CHINA: &str = "amazonaws.com.cn";
const SUFFIX: &str = "amazonaws.com";
/// Where a company's proxy may be, beside the internet.
const COMPANYS: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
/// Longest exchange, in seconds.
const EXCHANGE_SECONDS_MAX: u64 = 30;
/// What SNS gives instead of a subscription's name until somebody has confirmed it.
const PENDING: &str = "PendingConfirmation";

/// One alarm, as CloudWatch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) name: String,
    pub(super) rings: bool,
    pub(super) is_on: bool,
    pub(super) topics: Vec<String>,
    pub(super) description: String,
}

/// Who hears a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Subscribers {
    pub(super) confirmed: usize,
    pub(super) pending: usize,
}

/// Asks CloudWatch for the alarms whose names begin with the stack's, and SNS who hears their topics.
pub(super) async fn check(sdk: &SdkConfig, stack: &str, findings: &mut Findings) {
    let alarms = match alarms(sdk, stack).await {
        Ok(alarms) => alarms,
        Err(failure) => return findings.failure("AWS_ALARMS", "alarms", &failure),
    };
    let mut topics: BTreeMap<String, Subscribers> = BTreeMap::new();
    for topic in alarms.iter().flat_map(|alarm| &alarm.topics) {
        if topics.contains_key(topic) {
            continue;
        }
        match subscribers(sdk, topic).await {
            Ok(found) => {
                topics.insert(topic.clone(), found);
            }
            Err(failure) => return findings.failure("AWS_ALARM_SUBSCRIBERS", "who hears alarms", &failure),
        }
    }
    judge(stack, &alarms, &topics, findings);
}

/// One page of CloudWatch's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    metric_alarms: Vec<Described>,
    #[serde(default)]
    next_token: Option<String>,
}

/// One alarm of it. A state that is not told counts as ringing: nothing unknown is taken for well.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    alarm_name: String,
    #[serde(default)]
    state_value: String,
    #[serde(default)]
    actions_enabled: bool,
    #[serde(default)]
    alarm_actions: Vec<String>,
    #[serde(default)]
    alarm_description: String,
}

async fn alarms(sdk: &SdkConfig, stack: &str) -> Result<Vec<Alarm>, Failure> {
    let region = sdk.region().map_or_else(String::new, ToString::to_string);
    let named = ENDPOINTS.iter().find_map(|name| variable(name));
    let address = named.unwrap_or_else(|| address_in(&region));
    described(sdk, &region, &address, stack).await
}

/// Where CloudWatch is in a region.
pub(super) fn address_in(region: &str) -> String {
    let suffix = if region.starts_with(CHINA) {
        SUFFIX_OF_CHINA
    } else {
        SUFFIX
    };
    format!("https://{SERVICE}.{region}.{suffix}")
}

/// The only place to ask, by the proxy that this machine's variables name for it.
fn destination(address: &BaseUrl) -> Result<Destination, Failure> {
    let uri: http::Uri = address
        .as_str()
        .parse()
        .map_err(|_| unanswered("the address is none"))?;
    let Some(proxy) = Matcher::from_env().intercept(&uri) else {
        return Ok(Destination::of(address, &[]));
    };
    let host = proxy.uri().authority().map_or("", |authority| authority.as_str());
    let authorization = proxy.basic_auth().and_then(|value| value.to_str().ok());
    let route = Route::through(&format!("http://{host}"), authorization.map(SecretString::from))
        .map_err(unanswered)?;
    let networks: Vec<Network> = COMPANYS.iter().filter_map(|range| range.parse().ok()).collect();
    Ok(Destination::of(address, &networks).by(&route))
}

/// All alarms of the stack, from CloudWatch at this address.
pub(super) async fn described(
    sdk: &SdkConfig,
    region: &str,
    address: &str,
    stack: &str,
) -> Result<Vec<Alarm>, Failure> {
    let address: BaseUrl = address
        .parse()
        .map_err(|problem: Problem| Failure::from(problem))?;
    let mut found = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut body =
            json!({ "AlarmNamePrefix": stack, "MaxRecords": PAGE_ALARMS, "AlarmTypes": ["MetricAlarm"] });
        if let (Some(token), Some(fields)) = (&next, body.as_object_mut()) {
            fields.insert("NextToken".to_owned(), json!(token));
        }
        let page = asked(sdk, region, &address, body.to_string()).await?;
        found.extend(page.metric_alarms.into_iter().map(|alarm| Alarm {
            rings: !matches!(alarm.state_value.as_str(), "OK" | "INSUFFICIENT_DATA"),
            name: alarm.alarm_name,
            is_on: alarm.actions_enabled,
            topics: alarm.alarm_actions,
            description: alarm.alarm_description,
        }));
        next = page.next_token;
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(unanswered(format!("more than {PAGES_MAX} pages")))
}

fn unanswered(actual: impl Into<String>) -> Failure {
    let fix = "Check region, profile and the right cloudwatch:DescribeAlarms; what AWS says is in 'got'.";
    let problem = Problem::new("CLOUDWATCH_FAILED", fix).field("DescribeAlarms");
    Failure::Unreachable(problem.actual(clean(&actual.into())))
}

/// One signed request.
async fn asked(sdk: &SdkConfig, region: &str, address: &BaseUrl, body: String) -> Result<Page, Failure> {
    let provider = sdk
        .credentials_provider()
        .ok_or_else(|| unanswered("no credentials"))?;
    let credentials = provider
        .provide_credentials()
        .await
        .map_err(|error| unanswered(error.to_string()))?;
    let millis = u64::try_from(SystemClock.now().0).unwrap_or(0);
    let now = UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH);
    let identity = credentials.into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| unanswered(error.to_string()))?
        .into();
    let url = address.at("/", &[]);
    let mut headers = vec![
        ("content-type".to_owned(), "application/x-amz-json-1.0".to_owned()),
        ("x-amz-target".to_owned(), DESCRIBE_ALARMS.to_owned()),
    ];
    let named = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new("POST", &*url, named, SignableBody::Bytes(body.as_bytes()))
        .map_err(|error| unanswered(error.to_string()))?;
    let (instructions, _) = sign(signable, &parameters)
        .map_err(|error| unanswered(error.to_string()))?
        .into_parts();
    let signed = instructions.headers();
    headers.extend(signed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let request = Request {
        destination: destination(address)?,
        method: Method::Post,
        url,
        headers,
        body: Some(body.into_bytes()),
        timeout: Duration::from_secs(EXCHANGE_SECONDS_MAX),
        write: false,
    };
    let answer = HttpTransport::new()
        .send(request)
        .await
        .map_err(|error| unanswered(error.to_string()))?;
    if answer.status != 200 {
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(unanswered(format!("{} {said}", answer.status)));
    }
    serde_json::from_slice(&answer.body).map_err(|error| unanswered(error.to_string()))
}

async fn subscribers(sdk: &SdkConfig, topic: &str) -> Result<Subscribers, Failure> {
    let answer = aws_sdk_sns::Client::new(sdk)
        .list_subscriptions_by_topic()
        .topic_arn(topic)
        .send()
        .await
        .map_err(|error| refused("SNS", "ListSubscriptionsByTopic", &error.into_service_error()))?;
    // One page is enough to know that there is somebody.
    let pending = answer
        .subscriptions()
        .iter()
        .filter(|one| one.subscription_arn() == Some(PENDING))
        .count();
    Ok(Subscribers {
        confirmed: answer.subscriptions().len().saturating_sub(pending),
        pending,
    })
}

/// What follows from it. Pure.
pub(super) fn judge(
    stack: &str,
    alarms: &[Alarm],
    topics: &BTreeMap<String, Subscribers>,
    findings: &mut Findings,
) {
    if alarms.is_empty() {
        let fix = "Deploy the stack's alarms, or give --stack the name it was deployed under.";
        let found = format!("none whose name begins with {stack}");
        return findings.add("AWS_ALARMS", "alarms", Verdict::Fail, found, fix);
    }
    let ringing: Vec<&Alarm> = alarms.iter().filter(|alarm| alarm.rings).collect();
    if ringing.is_empty() {
        findings.pass("AWS_ALARMS", "alarms", format!("{}, none rings", alarms.len()));
    }
    for alarm in ringing {
        let fix = alarm
            .description
            .split_once("Do: ")
            .map_or("Look it up in docs/operate.md.", |(_, rest)| rest);
        findings.add(
            "AWS_ALARM",
            format!("alarm {}", alarm.name),
            Verdict::Warn,
            "rings",
            fix,
        );
    }
    for alarm in alarms
        .iter()
        .filter(|alarm| !alarm.is_on || alarm.topics.is_empty())
    {
        let fix =
            "Switch its actions on again (`aws cloudwatch enable-alarm-actions`), or deploy the stack anew.";
        let found = "its actions are off: it tells nobody";
        findings.add(
            "AWS_ALARM",
            format!("alarm {}", alarm.name),
            Verdict::Fail,
            found,
            fix,
        );
    }
    for (topic, heard) in topics {
        let check = format!("who hears {topic}");
        match heard {
            Subscribers {
                confirmed: 0,
                pending: 0,
            } => findings.add(
                "AWS_ALARM_SUBSCRIBERS",
                check,
                Verdict::Fail,
                "nobody",
                "Subscribe to the topic (`aws sns subscribe`), or deploy the stack with AlarmEmail.",
            ),
            Subscribers {
                confirmed: 0,
                pending,
            } => findings.add(
                "AWS_ALARM_SUBSCRIBERS",
                check,
                Verdict::Fail,
                format!("{pending} have not confirmed"),
                "Follow the link in the message that AWS has sent to the address.",
            ),
            Subscribers { confirmed, .. } => {
                findings.pass("AWS_ALARM_SUBSCRIBERS", check, format!("{confirmed} subscribers"))
            }
        }
    }
}
