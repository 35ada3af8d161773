//! What `wheelport check` says of the parts that replicas share, good and bad: each finding names its remedy.

use aws_sdk_sqs::types::QueueAttributeName;
use rustix::process::Signal;
use serde_json::{Value, json};
use wheelport_runtime::blocking;

use super::bad_store::{Conditions, always, careless, error, refusing_writes};
use super::events::{Queues, REGION};
use super::servers::{Server, ministack, moto, new_bucket};
use super::support::process::{Program, World};
use super::support::scripted::{Gate, Reply, Scripted, Seen};

/// A finding of one step: its status, and everything it says.
struct Said {
    status: String,
    text: String,
}

impl Said {
    /// Fails unless the step ended like this and says these words.
    #[track_caller]
    fn expect(&self, status: &str, words: &[&str]) {
        assert_eq!(self.status, status, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "{word:?} is not in {}", self.text);
        }
    }
}

/// Runs the doctor with these options and environment variables; returns what it says of a step.
async fn check(options: &[&str], environment: &[(&str, &str)], steps: &[&str]) -> Vec<Said> {
    let world = World::new().await;
    let (endpoint, control, cache) = (world.upstream.url("/pypi/r/"), world.control.url(""), world.cache());
    let own = ["check", "--format", "json", "--domain", "acme", "--domain-owner", "111122223333", "--repository", "r1"];
    let own = own.into_iter().chain(["--endpoint", &endpoint, "--cache-dir", &cache]);
    let arguments: Vec<String> = own.chain(options.iter().copied()).map(str::to_owned).collect();
    let keys = [
        ("AWS_ENDPOINT_URL", control.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "an-example-of-a-secret-key"),
    ];
    let environment: Vec<(String, String)> =
        keys.iter().chain(environment).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let outcome = blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Program::run(&arguments, &environment)
    });
    let outcome = outcome.await.expect("no panic");
    let report: Value = serde_json::from_str(&outcome.out).unwrap_or_else(|_| panic!("{outcome:?}"));
    let findings = report["findings"].as_array().expect("a list");
    let said = |step: &&str| {
        let finding = findings.iter().find(|finding| finding["step"] == **step);
        let finding = finding.unwrap_or_else(|| panic!("no step {step} in {report}"));
        Said { status: finding["status"].as_str().expect("a status").to_owned(), text: finding.to_string() }
    };
    steps.iter().map(said).collect()
}

/// What is said of a store: its rights, and its conditions.
async fn store(endpoint: &str, bucket: &str) -> [Said; 2] {
    let options = ["--fleet-store", &format!("s3://{bucket}/prefix"), "--fleet-store-endpoint", endpoint];
    let said = check(&options, &[], &["store", "store conditions"]).await;
    said.try_into().unwrap_or_else(|_| panic!("two findings"))
}

async fn redis(address: &str) -> Said {
    check(&[], &[("WHEELPORT_FLEET_REDIS", address)], &["redis"]).await.remove(0)
}

fn closed_port() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("an address")
}

#[tokio::test]
async fn a_good_store_is_proven() {
    let settings = new_bucket(ministack().port).await;
    let bucket = settings.store.expect("a store").bucket;
    let endpoint = format!("http://127.0.0.1:{}", ministack().port);
    let [rights, conditions] = store(&endpoint, &bucket).await;
    assert!(["ok", "warn"].contains(&rights.status.as_str()), "it may be slow: {}", rights.text);
    conditions.expect("ok", &["kept under a race"]);
    let [rights, conditions] = store(&endpoint, "no-such-bucket").await;
    rights.expect("fail", &["create the bucket `no-such-bucket`"]);
    conditions.expect("skip", &[]);
}

#[tokio::test]
async fn a_store_without_conditions_can_hold_no_leases() {
    for conditions in [Conditions::Ignored, Conditions::Racy] {
        let server = careless(conditions).await;
        let [rights, said] = store(&server.url(""), "bucket").await;
        rights.expect("ok", &[]);
        said.expect("warn", &["hold no leases", "`[fleet] redis`", "of eight that create one object at once"]);
    }
}

/// Whether this machine has npm; where everything is required, it has to.
fn runs_npm() -> bool {
    std::env::var_os("CI").is_some() || std::process::Command::new("npm").arg("--version").output().is_ok()
}

/// The one forgets what a replacement was to depend on, the other all conditions.
#[tokio::test]
async fn real_stores_without_conditions_can_hold_no_leases() {
    for (name, words) in [
        ("localbucket", ["hold no leases", "If-Match is not kept"]),
        ("fauxqs", ["hold no leases", "of eight that create one object at once"]),
    ] {
        if name == "fauxqs" && !runs_npm() {
            eprintln!("not tried: npm is not installed, and {name} comes from there");
            continue;
        }
        let server = Server::start(name);
        let bucket = new_bucket(server.port).await.store.expect("a store").bucket;
        let [rights, said] = store(&format!("http://127.0.0.1:{}", server.port), &bucket).await;
        assert!(["ok", "warn"].contains(&rights.status.as_str()), "{name} may be slow: {}", rights.text);
        said.expect("warn", &words);
    }
}

#[tokio::test]
async fn without_a_store_check_says_what_stays_on_one_replica() {
    let server = Server::start("valkey");
    let address = format!("redis://127.0.0.1:{}", server.port);
    let said = check(&[], &[("WHEELPORT_FLEET_REDIS", &address)], &["redis alone"]).await.remove(0);
    said.expect("warn", &["an exception from the rules", "an accepted change", "set `[fleet] store`"]);
}

#[tokio::test]
async fn what_a_store_refuses_has_its_remedy() {
    for (reply, words) in [
        (error(403, "AccessDenied"), ["s3:PutObject", "wheelport iam-policy fleet", "kms:GenerateDataKey"]),
        (error(403, "RequestTimeTooSkewed"), ["correct this machine's clock", "time", "clock"]),
        (error(301, "PermanentRedirect"), ["`[fleet] store_region`", "us-east-1", "another region"]),
        (error(507, "InsufficientStorage"), ["look what the store says", "507", "InsufficientStorage"]),
    ] {
        let server = refusing_writes(reply).await;
        let [rights, conditions] = store(&server.url(""), "bucket").await;
        rights.expect("fail", &words);
        conditions.expect("skip", &[]);
    }
    // It may write and not read.
    let server = always(error(403, "AccessDenied")).await;
    server.on("PUT *", Reply::ok("").header("etag", "\"1\""));
    let [rights, _] = store(&server.url(""), "bucket").await;
    rights.expect("fail", &["allow s3:GetObject"]);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_or_keeps_silent_has_its_remedy() {
    let [rights, conditions] = store(&format!("http://{}", closed_port()), "bucket").await;
    rights.expect("fail", &["open the way to the store", "VPC endpoint", "`[fleet] store_endpoint`"]);
    conditions.expect("skip", &[]);
    let never = Gate::closed();
    let silent = always(Reply::ok("").before_head(&never)).await;
    let [rights, _] = store(&silent.url(""), "bucket").await;
    rights.expect("fail", &["did not respond in time", "open the way to the store"]);
}

#[tokio::test]
async fn redis_is_proven_and_what_is_wrong_with_it_has_its_remedy() {
    let server = Server::start("valkey");
    let address = format!("redis://127.0.0.1:{}", server.port);
    redis(&address).await.expect("ok", &["passes on what a replica says"]);
    redis(&format!("redis://{}", closed_port())).await.expect("fail", &["open the way to it", "rediss://"]);
    let client = redis::Client::open(address.as_str()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("requirepass").arg("right");
    set.query_async::<()>(&mut connection).await.expect("a command");
    for wrong in [address.clone(), format!("redis://:wrong@127.0.0.1:{}", server.port)] {
        let said = redis(&wrong).await;
        said.expect("fail", &["put user and password into the address", "WHEELPORT_FLEET_REDIS"]);
        assert!(!said.text.contains("wrong@"), "{}", said.text);
    }
    redis(&format!("redis://:right@127.0.0.1:{}", server.port)).await.expect("ok", &[]);
    server.signal(Signal::STOP);
    redis(&address).await.expect("fail", &["open the way to it", "`[fleet] redis_timeout`"]);
}

/// What is said of a queue: its rights, who may send to it, and how it treats messages.
async fn queue(url: &str) -> [Said; 3] {
    let steps = ["events", "event sender", "event queue"];
    let said = check(&["--fleet-events", url], &[("AWS_REGION", REGION)], &steps).await;
    said.try_into().unwrap_or_else(|_| panic!("three findings"))
}

#[tokio::test]
async fn what_is_wrong_with_a_queue_has_its_remedy() {
    let refuse = |code: &str, status| {
        let text = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": "no"}).to_string();
        Reply::status(status).header("x-amzn-errortype", code).body(text)
    };
    let denying = Scripted::start().await;
    denying.on("POST /", refuse("AccessDeniedException", 403));
    let port = ministack().port;
    for (url, words) in [
        (format!("http://127.0.0.1:{port}/000000000000/no-such-queue"), "create the queue"),
        (format!("http://{}/1/q", closed_port()), "open the way"),
        (denying.url("/1/q"), "allow sqs:ReceiveMessage"),
    ] {
        check(&["--fleet-events", &url], &[], &["events"]).await.remove(0).expect("fail", &[words]);
    }
    // All that the server needs, and not what only this command looks at.
    let partly = Scripted::start().await;
    let respond = move |seen: &Seen| match seen.header("x-amz-target").unwrap_or_default() {
        "AmazonSQS.GetQueueAttributes" => refuse("AccessDeniedException", 403),
        "AmazonSQS.ReceiveMessage" => Reply::ok("{}"),
        _ => refuse("ReceiptHandleIsInvalid", 400),
    };
    partly.on("POST /", Reply::with(respond));
    let said = check(&["--fleet-events", &partly.url("/1/q")], &[], &["events", "event sender"]).await;
    said[0].expect("ok", &["messages may be deleted"]);
    said[1].expect("warn", &["allow sqs:GetQueueAttributes", "wheelport iam-policy fleet"]);
}

#[tokio::test]
async fn whether_events_can_travel_is_read_from_the_queue() {
    for server in [ministack(), moto()] {
        let queues = Queues::at(server.port);
        let url = queues.create("checked", server.port).await;
        let arn = queues.get(&url, QueueAttributeName::QueueArn).await;
        assert!(arn.starts_with("arn:aws:sqs:"), "{arn}");
        let [rights, sender, handling] = queue(&url).await;
        rights.expect("ok", &["messages may be deleted"]);
        sender.expect("warn", &["no statement", "events.amazonaws.com", "sqs:SendMessage", &arn]);
        handling.expect("ok", &["hidden for 30 s"]);

        let rule = "arn:aws:events:us-east-1:111122223333:rule/wheelport-packages";
        let statement = json!({
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        });
        let policy = |statements: &[&Value]| json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        queues.set(&url, QueueAttributeName::Policy, &policy(&[&statement])).await;
        queue(&url).await[1].expect("ok", &["EventBridge may send", rule]);
        let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn});
        queues.set(&url, QueueAttributeName::Policy, &policy(&[&statement, &deny])).await;
        queue(&url).await[1].expect("warn", &["forbids"]);

        for (seconds, words) in [("5", "again and again"), ("3600", "so late")] {
            queues.set(&url, QueueAttributeName::VisibilityTimeout, seconds).await;
            queue(&url).await[2].expect("warn", &[words, "60 s"]);
        }
    }
}

#[tokio::test]
async fn a_message_that_waits_is_not_sent_to_the_dead_letters_by_looking() {
    for server in [ministack(), moto()] {
        let queues = Queues::at(server.port);
        let (url, dead) = (queues.create("alive", server.port).await, queues.create("dead", server.port).await);
        let dead = queues.get(&dead, QueueAttributeName::QueueArn).await;
        let redrive = json!({"deadLetterTargetArn": dead, "maxReceiveCount": 1}).to_string();
        queues.set(&url, QueueAttributeName::RedrivePolicy, &redrive).await;
        queues.send(&url, "an event").await;
        for _ in 0..2 {
            let [rights, sender, handling] = queue(&url).await;
            rights.expect("ok", &["was not tried"]);
            sender.expect("warn", &["messages wait in it (about 1)"]);
            handling.expect("warn", &["dead-letter", "`maxReceiveCount`"]);
        }
        assert_eq!(queues.receives(&url).await.as_deref(), Some("1"), "nothing but this test has received it");
    }
}
