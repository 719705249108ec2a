//! Reads a CloudFormation template and evaluates it as far as one machine needs: parameters, conditions, mappings,
//! pseudo parameters, intrinsic functions, references between resources, imports.
//!
//! Evaluation is lazy: only what is asked for is evaluated, so an intrinsic function that is not supported is an error
//! exactly where its value would matter.

use domain::problem::Problem;
use saphyr::{LoadableYamlNode, ScalarOwned, YamlOwned};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Deepest nesting of YAML and of references followed, in levels. Stops circles.
const DEPTH_LEVELS_MAX: usize = 64;
/// Largest template read, in bytes (CloudFormation's own limit for a template in S3).
pub const TEMPLATE_BYTES_MAX: usize = 1_048_576;

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not YAML, or not shaped like a template.
    #[error("{0}")]
    Syntax(Box<Problem>),
    /// It uses something the local run does not know, and which matters.
    #[error("{0}")]
    Unsupported(Box<Problem>),
    /// It names something that does not exist.
    #[error("{0}")]
    Reference(Box<Problem>),
    /// A value is missing, or is not what it must be.
    #[error("{0}")]
    Value(Box<Problem>),
}

impl TemplateError {
    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Syntax(problem)
            | Self::Unsupported(problem)
            | Self::Reference(problem)
            | Self::Value(problem) => problem,
        }
    }

    pub(crate) fn unsupported(at: &str, what: &str) -> Self {
        let fix =
            "The local run does not know this; change the template, or teach the local run what it means.";
        Self::Unsupported(Box::new(
            Problem::new("LOCAL_TEMPLATE_UNSUPPORTED", fix)
                .field(at)
                .actual(what),
        ))
    }

    pub(crate) fn value(at: &str, expected: &str, actual: impl ToString) -> Self {
        let problem = Problem::new(
            "LOCAL_TEMPLATE_VALUE",
            "Correct the template, or the parameter it takes it from.",
        );
        Self::Value(Box::new(
            problem.field(at).expected(expected).actual(actual.to_string()),
        ))
    }

    fn reference(at: &str, name: &str) -> Self {
        let problem = Problem::new(
            "LOCAL_TEMPLATE_REFERENCE",
            "Name a parameter, a resource whose condition holds, or an export of the other template.",
        );
        Self::Reference(Box::new(problem.field(at).actual(name)))
    }

    fn syntax(at: &str, expected: &str, actual: impl ToString) -> Self {
        let problem = Problem::new("LOCAL_TEMPLATE_SYNTAX", "Correct the template.");
        Self::Syntax(Box::new(
            problem.field(at).expected(expected).actual(actual.to_string()),
        ))
    }
}

/// The values CloudFormation itself knows, and the addresses that exist only locally.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `AWS::Region`.
    pub region: String,
    /// `AWS::AccountId`.
    pub account_id: String,
    /// `AWS::StackName`.
    pub stack_name: String,
    /// Address under which queues are reached, without a final slash: a queue's URL is this, the account and its name.
    pub queue_endpoint: String,
    /// Address of the gateway, without a final slash.
    pub gateway_endpoint: String,
}

/// What a template tells others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Every output by its name in the template.
    pub values: BTreeMap<String, String>,
    /// Those that other stacks may import, by their export names.
    pub exports: BTreeMap<String, String>,
}

/// A template with its parameters filled in.
#[derive(Debug, Clone)]
pub struct Template {
    file: String,
    root: Map<String, Value>,
    parameters: BTreeMap<String, Value>,
    surroundings: Surroundings,
    imports: BTreeMap<String, String>,
}

impl Template {
    /// Reads a template and fills in its parameters.
    ///
    /// `file` names it in problems; `parameters` override the defaults; `imports` are the exports of other stacks.
    ///
    /// # Errors
    /// Not YAML, a parameter without a value, a parameter the template does not have, a value it does not allow.
    pub fn read(
        file: &str,
        text: &str,
        parameters: &BTreeMap<String, String>,
        surroundings: Surroundings,
        imports: BTreeMap<String, String>,
    ) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::syntax(file, "at most 1 MiB", text.len()));
        }
        let documents =
            YamlOwned::load_from_str(text).map_err(|error| TemplateError::syntax(file, "YAML", error))?;
        let [document] = documents.as_slice() else {
            return Err(TemplateError::syntax(file, "one YAML document", documents.len()));
        };
        let Value::Object(root) = plain(document, file, DEPTH_LEVELS_MAX)? else {
            return Err(TemplateError::syntax(file, "a mapping", "something else"));
        };
        let parameters = fill_parameters(file, &root, parameters)?;
        Ok(Self {
            file: file.to_owned(),
            root,
            parameters,
            surroundings,
            imports,
        })
    }

    /// Names of the parameters a template declares, without evaluating anything.
    ///
    /// # Errors
    /// Not YAML.
    pub fn parameter_names(file: &str, text: &str) -> Result<Vec<String>, TemplateError> {
        let documents =
            YamlOwned::load_from_str(text).map_err(|error| TemplateError::syntax(file, "YAML", error))?;
        let Some(document) = documents.first() else {
            return Ok(Vec::new());
        };
        let root = plain(document, file, DEPTH_LEVELS_MAX)?;
        let declared = root.get("Parameters").and_then(Value::as_object);
        Ok(declared
            .map(|all| all.keys().cloned().collect())
            .unwrap_or_default())
    }

    /// The values around it.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// A section of the template as it is written (`Globals`, `Outputs`, …).
    pub fn section(&self, name: &str) -> Option<&Map<String, Value>> {
        self.root.get(name).and_then(Value::as_object)
    }

    /// Where something stands, for a problem.
    pub fn place(&self, path: &str) -> String {
        format!("{}: {path}", self.file)
    }

    /// The resources whose conditions hold: logical name, type, and the resource as it is written.
    ///
    /// # Errors
    /// A resource without a type, a condition that does not exist.
    pub fn resources(&self) -> Result<Vec<(&str, &str, &Value)>, TemplateError> {
        let mut found = Vec::new();
        for (name, resource) in self.section("Resources").into_iter().flatten() {
            if self.exists(name, resource)? {
                found.push((name.as_str(), self.type_of(name, resource)?, resource));
            }
        }
        Ok(found)
    }

    /// The outputs.
    ///
    /// # Errors
    /// An output that cannot be evaluated.
    pub fn outputs(&self) -> Result<Outputs, TemplateError> {
        let mut outputs = Outputs::default();
        for (name, output) in self.section("Outputs").into_iter().flatten() {
            let at = format!("Outputs/{name}");
            if let Some(Value::String(condition)) = output.get("Condition")
                && !self.condition(condition, &at, DEPTH_LEVELS_MAX)?
            {
                continue;
            }
            let value = output.get("Value").unwrap_or(&Value::Null);
            let value = self.text(value, &format!("{at}/Value"))?;
            if let Some(export) = output.pointer("/Export/Name") {
                outputs
                    .exports
                    .insert(self.text(export, &format!("{at}/Export/Name"))?, value.clone());
            }
            outputs.values.insert(name.clone(), value);
        }
        Ok(outputs)
    }

    /// Evaluates a value; `None` is `AWS::NoValue`, the property is as if it were not written.
    ///
    /// # Errors
    /// An intrinsic function or a reference that cannot be evaluated.
    pub fn evaluate(&self, value: &Value, at: &str) -> Result<Option<Value>, TemplateError> {
        self.eval(value, at, DEPTH_LEVELS_MAX)
    }

    /// Evaluates a value that must be a text; numbers and booleans become their text, as in CloudFormation.
    ///
    /// # Errors
    /// It is not a scalar, or cannot be evaluated.
    pub fn text(&self, value: &Value, at: &str) -> Result<String, TemplateError> {
        self.eval_text(value, at, DEPTH_LEVELS_MAX)
    }

    fn eval_text(&self, value: &Value, at: &str, depth: usize) -> Result<String, TemplateError> {
        let value = self.eval(value, at, depth)?.unwrap_or(Value::Null);
        scalar_text(&value).ok_or_else(|| TemplateError::value(&self.place(at), "a text", value))
    }

    fn eval(&self, value: &Value, at: &str, depth: usize) -> Result<Option<Value>, TemplateError> {
        let depth = self.deeper(depth, at)?;
        match value {
            Value::Object(map) => match intrinsic(map) {
                Some((name, argument)) => self.call(name, argument, at, depth),
                None => {
                    let mut result = Map::new();
                    for (key, value) in map {
                        if let Some(value) = self.eval(value, &format!("{at}/{key}"), depth)? {
                            result.insert(key.clone(), value);
                        }
                    }
                    Ok(Some(Value::Object(result)))
                }
            },
            Value::Array(values) => {
                let mut result = Vec::with_capacity(values.len());
                for value in values {
                    result.extend(self.eval(value, at, depth)?);
                }
                Ok(Some(Value::Array(result)))
            }
            scalar => Ok(Some(scalar.clone())),
        }
    }

    fn deeper(&self, depth: usize, at: &str) -> Result<usize, TemplateError> {
        depth.checked_sub(1).ok_or_else(|| {
            TemplateError::value(
                &self.place(at),
                "references without a circle",
                "nested too deeply",
            )
        })
    }

    fn call(
        &self,
        name: &str,
        argument: &Value,
        at: &str,
        depth: usize,
    ) -> Result<Option<Value>, TemplateError> {
        match name {
            "Ref" => {
                let name = self.eval_text(argument, at, depth)?;
                if name == "AWS::NoValue" {
                    return Ok(None);
                }
                self.reference(&name, at, depth).map(Some)
            }
            "Fn::GetAtt" => {
                let (resource, attribute) = self.get_att_argument(argument, at, depth)?;
                self.attribute(&resource, &attribute, at, depth).map(Some)
            }
            "Fn::Sub" => self
                .substitute(argument, at, depth)
                .map(|text| Some(Value::String(text))),
            "Fn::If" => {
                let [condition, then, otherwise] = self.arguments(argument, at)?;
                let condition = self.eval_text(condition, at, depth)?;
                let chosen = if self.condition(&condition, at, depth)? {
                    then
                } else {
                    otherwise
                };
                self.eval(chosen, at, depth)
            }
            "Fn::Join" => {
                let [delimiter, _] = self.arguments(argument, at)?;
                let delimiter = self.eval_text(delimiter, at, depth)?;
                let parts = self.eval(argument.get(1).unwrap_or(&Value::Null), at, depth)?;
                let parts = self.texts(parts.as_ref(), at)?;
                Ok(Some(Value::String(parts.join(&delimiter))))
            }
            "Fn::Split" => {
                let [delimiter, text] = self.arguments(argument, at)?;
                let delimiter = self.eval_text(delimiter, at, depth)?;
                let text = self.eval_text(text, at, depth)?;
                Ok(Some(text.split(delimiter.as_str()).collect()))
            }
            "Fn::Select" => {
                let [index, list] = self.arguments(argument, at)?;
                let index = self.eval_text(index, at, depth)?;
                let list = self.eval(list, at, depth)?.unwrap_or(Value::Null);
                let chosen = index.parse::<usize>().ok().and_then(|index| list.get(index));
                chosen
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| TemplateError::value(&self.place(at), "an index inside the list", index))
            }
            "Fn::FindInMap" => {
                let [map, first, second] = self.arguments(argument, at)?;
                let map = self.eval_text(map, at, depth)?;
                let first = self.eval_text(first, at, depth)?;
                let second = self.eval_text(second, at, depth)?;
                let found = self
                    .section("Mappings")
                    .and_then(|all| all.get(&map)?.get(&first)?.get(&second));
                let name = || format!("{map}/{first}/{second}");
                found
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| TemplateError::reference(&self.place(at), &name()))
            }
            "Fn::ImportValue" => {
                let name = self.eval_text(argument, at, depth)?;
                let value = self.imports.get(&name);
                let value = value.ok_or_else(|| TemplateError::reference(&self.place(at), &name))?;
                Ok(Some(Value::String(value.clone())))
            }
            "Fn::ToJsonString" => {
                let value = self.eval(argument, at, depth)?.unwrap_or(Value::Null);
                Ok(Some(Value::String(value.to_string())))
            }
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => {
                let whole = json!({ name: argument });
                self.truth(&whole, at, depth)
                    .map(|truth| Some(Value::Bool(truth)))
            }
            other => Err(TemplateError::unsupported(
                &self.place(at),
                &format!("intrinsic function {other}"),
            )),
        }
    }

    fn arguments<'a, const N: usize>(
        &self,
        argument: &'a Value,
        at: &str,
    ) -> Result<[&'a Value; N], TemplateError> {
        let list: Vec<&Value> = argument
            .as_array()
            .map(|list| list.iter().collect())
            .unwrap_or_default();
        let count = list.len();
        list.try_into().map_err(|_| {
            TemplateError::value(
                &self.place(at),
                &format!("a list of {N}"),
                format!("{count} values"),
            )
        })
    }

    fn texts(&self, value: Option<&Value>, at: &str) -> Result<Vec<String>, TemplateError> {
        let list = value.and_then(Value::as_array);
        let texts = list.and_then(|list| list.iter().map(scalar_text).collect::<Option<Vec<String>>>());
        texts.ok_or_else(|| {
            TemplateError::value(&self.place(at), "a list of texts", value.unwrap_or(&Value::Null))
        })
    }

    fn get_att_argument(
        &self,
        argument: &Value,
        at: &str,
        depth: usize,
    ) -> Result<(String, String), TemplateError> {
        if let Value::String(text) = argument
            && let Some((resource, attribute)) = text.split_once('.')
        {
            return Ok((resource.to_owned(), attribute.to_owned()));
        }
        let [resource, attribute] = self.arguments(argument, at)?;
        Ok((
            self.eval_text(resource, at, depth)?,
            self.eval_text(attribute, at, depth)?,
        ))
    }

    fn substitute(&self, argument: &Value, at: &str, depth: usize) -> Result<String, TemplateError> {
        let none = Map::new();
        let (text, own) = match argument {
            Value::String(text) => (text.as_str(), &none),
            list => {
                let [text, own] = self.arguments(list, at)?;
                match (text, own) {
                    (Value::String(text), Value::Object(own)) => (text.as_str(), own),
                    _ => {
                        return Err(TemplateError::value(
                            &self.place(at),
                            "a text and a mapping",
                            argument,
                        ));
                    }
                }
            }
        };
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            result.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                return Err(TemplateError::syntax(
                    &self.place(at),
                    "a closing brace in Fn::Sub",
                    text,
                ));
            };
            rest = after;
            let name = name.trim();
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str(&format!("${{{literal}}}"));
            } else if let Some(value) = own.get(name) {
                result.push_str(&self.eval_text(value, at, depth)?);
            } else {
                let value = match name.split_once('.') {
                    Some((resource, attribute)) => self.attribute(resource, attribute, at, depth)?,
                    None => self.reference(name, at, depth)?,
                };
                let value = scalar_text(&value);
                result.push_str(&value.ok_or_else(|| TemplateError::value(&self.place(at), "a text", name))?);
            }
        }
        result.push_str(rest);
        Ok(result)
    }

    fn condition(&self, name: &str, at: &str, depth: usize) -> Result<bool, TemplateError> {
        let depth = self.deeper(depth, at)?;
        let body = self.section("Conditions").and_then(|all| all.get(name));
        let body = body.ok_or_else(|| TemplateError::reference(&self.place(at), name))?;
        self.truth(body, &format!("Conditions/{name}"), depth)
    }

    fn truth(&self, value: &Value, at: &str, depth: usize) -> Result<bool, TemplateError> {
        let depth = self.deeper(depth, at)?;
        let single = value
            .as_object()
            .filter(|map| map.len() == 1)
            .and_then(|map| map.iter().next());
        let Some((name, argument)) = single else {
            return Err(TemplateError::value(&self.place(at), "a condition", value));
        };
        let list = || argument.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        match name.as_str() {
            "Condition" => self.condition(&self.eval_text(argument, at, depth)?, at, depth),
            "Fn::Equals" => {
                let [left, right] = self.arguments(argument, at)?;
                Ok(self.eval_text(left, at, depth)? == self.eval_text(right, at, depth)?)
            }
            "Fn::Not" => {
                let [inner] = self.arguments(argument, at)?;
                Ok(!self.truth(inner, at, depth)?)
            }
            "Fn::And" => list().try_fold(true, |all, one| Ok(all & self.truth(one, at, depth)?)),
            "Fn::Or" => list().try_fold(false, |any, one| Ok(any | self.truth(one, at, depth)?)),
            other => Err(TemplateError::unsupported(
                &self.place(at),
                &format!("condition function {other}"),
            )),
        }
    }

    fn exists(&self, name: &str, resource: &Value) -> Result<bool, TemplateError> {
        match resource.get("Condition") {
            None => Ok(true),
            Some(Value::String(condition)) => self.condition(
                condition,
                &format!("Resources/{name}/Condition"),
                DEPTH_LEVELS_MAX,
            ),
            Some(other) => Err(TemplateError::value(
                &self.place(&format!("Resources/{name}/Condition")),
                "the name of a condition",
                other,
            )),
        }
    }

    fn type_of<'a>(&self, name: &str, resource: &'a Value) -> Result<&'a str, TemplateError> {
        let at = format!("Resources/{name}/Type");
        let kind = resource.get("Type").and_then(Value::as_str);
        kind.ok_or_else(|| TemplateError::value(&self.place(&at), "a resource type", "none"))
    }

    fn resource(&self, name: &str, at: &str) -> Result<(&str, &Value), TemplateError> {
        let missing = || TemplateError::reference(&self.place(at), name);
        let resource = self
            .section("Resources")
            .and_then(|all| all.get(name))
            .ok_or_else(missing)?;
        if !self.exists(name, resource)? {
            return Err(missing());
        }
        Ok((self.type_of(name, resource)?, resource))
    }

    fn reference(&self, name: &str, at: &str, depth: usize) -> Result<Value, TemplateError> {
        let around = &self.surroundings;
        let pseudo = match name {
            "AWS::Region" => Some(around.region.clone()),
            "AWS::AccountId" => Some(around.account_id.clone()),
            "AWS::StackName" => Some(around.stack_name.clone()),
            "AWS::Partition" => Some("aws".to_owned()),
            "AWS::URLSuffix" => Some("amazonaws.com".to_owned()),
            "AWS::StackId" => Some(self.arn("cloudformation", &format!("stack/{}/local", around.stack_name))),
            _ => None,
        };
        if let Some(value) = pseudo {
            return Ok(Value::String(value));
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(value.clone());
        }
        let (kind, _) = self.resource(name, at)?;
        let physical = self.physical_name(name, at, depth)?;
        Ok(Value::String(match kind {
            "AWS::SQS::Queue" => self.queue_url(&physical),
            "AWS::SecretsManager::Secret" | "AWS::SNS::Topic" => self.resource_arn(kind, &physical),
            "AWS::Serverless::HttpApi" => "local".to_owned(),
            _ => physical,
        }))
    }

    fn attribute(
        &self,
        resource: &str,
        attribute: &str,
        at: &str,
        depth: usize,
    ) -> Result<Value, TemplateError> {
        let depth = self.deeper(depth, at)?;
        let (kind, _) = self.resource(resource, at)?;
        let physical = self.physical_name(resource, at, depth)?;
        let value = match (kind, attribute) {
            ("AWS::Serverless::HttpApi", "ApiEndpoint") => self.surroundings.gateway_endpoint.clone(),
            ("AWS::Serverless::HttpApi", "ApiId") => "local".to_owned(),
            ("AWS::SQS::Queue", "QueueUrl") => self.queue_url(&physical),
            ("AWS::SQS::Queue", "QueueName")
            | ("AWS::SNS::Topic", "TopicName")
            | ("AWS::KMS::Key", "KeyId") => physical,
            ("AWS::SecretsManager::Secret", "Id") | ("AWS::SNS::Topic", "TopicArn") => {
                self.resource_arn(kind, &physical)
            }
            (_, "Arn") => self.resource_arn(kind, &physical),
            _ => {
                let what = format!("attribute {attribute} of {resource} ({kind})");
                return Err(TemplateError::unsupported(&self.place(at), &what));
            }
        };
        Ok(Value::String(value))
    }

    /// The name a resource has outside the template: the name property of its type, or one made of stack and logical name.
    ///
    /// # Errors
    /// The name property cannot be evaluated.
    pub fn name_of(&self, resource: &str) -> Result<String, TemplateError> {
        self.physical_name(resource, &format!("Resources/{resource}"), DEPTH_LEVELS_MAX)
    }

    fn physical_name(&self, resource: &str, at: &str, depth: usize) -> Result<String, TemplateError> {
        let (kind, body) = self.resource(resource, at)?;
        let property = match kind {
            "AWS::Serverless::Function" => "FunctionName",
            "AWS::SQS::Queue" => "QueueName",
            "AWS::DynamoDB::Table" => "TableName",
            "AWS::Logs::LogGroup" => "LogGroupName",
            "AWS::IAM::Role" => "RoleName",
            "AWS::SNS::Topic" => "TopicName",
            "AWS::SecretsManager::Secret" | "AWS::Scheduler::Schedule" | "AWS::Scheduler::ScheduleGroup" => {
                "Name"
            }
            _ => "",
        };
        match body.get("Properties").and_then(|all| all.get(property)) {
            Some(value) => self.eval_text(
                value,
                &format!("Resources/{resource}/Properties/{property}"),
                depth,
            ),
            None => Ok(format!("{}-{resource}", self.surroundings.stack_name)),
        }
    }

    fn queue_url(&self, name: &str) -> String {
        format!(
            "{}/{}/{name}",
            self.surroundings.queue_endpoint, self.surroundings.account_id
        )
    }

    fn arn(&self, service: &str, rest: &str) -> String {
        format!(
            "arn:aws:{service}:{}:{}:{rest}",
            self.surroundings.region, self.surroundings.account_id
        )
    }

    fn resource_arn(&self, kind: &str, name: &str) -> String {
        match kind {
            "AWS::Serverless::Function" => self.arn("lambda", &format!("function:{name}")),
            "AWS::SQS::Queue" => self.arn("sqs", name),
            "AWS::SNS::Topic" => self.arn("sns", name),
            "AWS::DynamoDB::Table" => self.arn("dynamodb", &format!("table/{name}")),
            "AWS::SecretsManager::Secret" => self.arn("secretsmanager", &format!("secret:{name}")),
            "AWS::Logs::LogGroup" => self.arn("logs", &format!("log-group:{name}:*")),
            "AWS::KMS::Key" => self.arn("kms", &format!("key/{name}")),
            "AWS::Scheduler::Schedule" => self.arn("scheduler", &format!("schedule/{name}")),
            "AWS::Scheduler::ScheduleGroup" => self.arn("scheduler", &format!("schedule-group/{name}")),
            "AWS::IAM::Role" => format!("arn:aws:iam::{}:role/{name}", self.surroundings.account_id),
            other => self.arn(&other.replace("::", "-").to_lowercase(), name),
        }
    }
}

/// The intrinsic function a mapping is, if it is one: one key, `Ref` or `Fn::…`.
fn intrinsic(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, argument) = map.iter().next().filter(|_| map.len() == 1)?;
    (name == "Ref" || name.starts_with("Fn::")).then_some((name.as_str(), argument))
}

/// The text of a scalar as CloudFormation compares and inserts it.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Turns YAML into plain data; a short form becomes its long form (`!Sub x` is `{"Fn::Sub": x}`).
fn plain(node: &YamlOwned, at: &str, depth: usize) -> Result<Value, TemplateError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(TemplateError::syntax(at, "at most 64 levels", "more"));
    };
    match node {
        YamlOwned::Value(scalar) => match scalar {
            ScalarOwned::Null => Ok(Value::Null),
            ScalarOwned::Boolean(flag) => Ok(Value::Bool(*flag)),
            ScalarOwned::Integer(number) => Ok(Value::from(*number)),
            ScalarOwned::FloatingPoint(number) => Ok(Value::from(number.into_inner())),
            ScalarOwned::String(text) => Ok(Value::String(text.clone())),
        },
        YamlOwned::Sequence(nodes) => nodes
            .iter()
            .map(|node| plain(node, at, depth))
            .collect::<Result<Vec<Value>, _>>()
            .map(Value::Array),
        YamlOwned::Mapping(nodes) => {
            let mut map = Map::new();
            for (key, node) in nodes {
                let key = scalar_text(&plain(key, at, depth)?);
                let key = key.ok_or_else(|| TemplateError::syntax(at, "a text as key", "something else"))?;
                let value = plain(node, &format!("{at}/{key}"), depth)?;
                map.insert(key, value);
            }
            Ok(Value::Object(map))
        }
        YamlOwned::Tagged(tag, node) if tag.handle == "!" => {
            let name = match tag.suffix.as_str() {
                "Ref" => "Ref".to_owned(),
                "Condition" => "Condition".to_owned(),
                function => format!("Fn::{function}"),
            };
            Ok(Value::Object(Map::from_iter([(name, plain(node, at, depth)?)])))
        }
        other => Err(TemplateError::syntax(
            at,
            "plain YAML with CloudFormation's tags",
            format!("{other:?}"),
        )),
    }
}

fn fill_parameters(
    file: &str,
    root: &Map<String, Value>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>, TemplateError> {
    let none = Map::new();
    let declared = root.get("Parameters").and_then(Value::as_object).unwrap_or(&none);
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        let known: Vec<&str> = declared.keys().map(String::as_str).collect();
        let at = format!("{file}: Parameters/{unknown}");
        return Err(TemplateError::value(
            &at,
            &format!("one of {}", known.join(", ")),
            unknown,
        ));
    }
    let mut values = BTreeMap::new();
    for (name, declaration) in declared {
        let at = format!("{file}: Parameters/{name}");
        let text = match given.get(name) {
            Some(text) => Some(text.clone()),
            None => declaration.get("Default").and_then(scalar_text),
        };
        let text = text.ok_or_else(|| TemplateError::value(&at, "a value", "none"))?;
        values.insert(name.clone(), parameter_value(declaration, &text, &at)?);
    }
    Ok(values)
}

/// Checks type, allowed values and bounds. `AllowedPattern` is left to CloudFormation: it would take a regex engine.
fn parameter_value(declaration: &Value, text: &str, at: &str) -> Result<Value, TemplateError> {
    if let Some(allowed) = declaration.get("AllowedValues").and_then(Value::as_array) {
        let allowed: Vec<String> = allowed.iter().filter_map(scalar_text).collect();
        if !allowed.iter().any(|one| one == text) {
            return Err(TemplateError::value(
                at,
                &format!("one of {}", allowed.join(", ")),
                text,
            ));
        }
    }
    match declaration.get("Type").and_then(Value::as_str) {
        Some("String") => Ok(Value::String(text.to_owned())),
        Some("Number") => {
            let number: i64 = text
                .parse()
                .map_err(|_| TemplateError::value(at, "a whole number", text))?;
            let bound = |name: &str| declaration.get(name).and_then(Value::as_i64);
            if bound("MinValue").is_some_and(|least| number < least)
                || bound("MaxValue").is_some_and(|most| number > most)
            {
                return Err(TemplateError::value(
                    at,
                    "a number between MinValue and MaxValue",
                    text,
                ));
            }
            Ok(Value::from(number))
        }
        Some("CommaDelimitedList") => Ok(text.split(',').map(str::trim).collect()),
        other => Err(TemplateError::unsupported(
            at,
            &format!("parameter type {}", other.unwrap_or("(none)")),
        )),
    }
}
