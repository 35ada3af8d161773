//! The connection to AWS: credentials, region and time limits.
//!
//! The SDK reads the proxy variables of the environment, as every AWS tool does: for the control plane, for STS, and
//! for the metadata services that credentials come from, unless `NO_PROXY` names these. An emulator is reached
//! directly.
//!
//! Building it never fails; what is missing shows in the first call. The SDK reads profile files once and keeps
//! its first error for good, so after a failure that a person may have repaired the whole configuration is read
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};

use parking_lot::RwLock;

use super::diagnose;
use super::error::{Call, ControlError};
use super::settings::{AwsSettings, RegionName};
use super::skew::SkewWatch;
use crate::token::MintErrorKind;
use wheelport_runtime::Clock;

const OPERATION_LIMIT: Duration = Duration::from_secs(10);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
/// Shown in `CloudTrail` and in the caller's ARN.
const ROLE_SESSION_NAME: &str = "wheelport";

/// One way into AWS: one per (profile, region, role, external id). Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    connection: Arc<ControlConnection>,
}

struct ControlConnection {
    settings: AwsSettings,
    session: RwLock<SdkConfig>,
    /// The credentials failed; the next call reads the configuration again.
    outdated: AtomicBool,
    skew: SkewWatch,
}

/// What may be shown of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CredentialsFound {
    /// Which provider of the chain had them.
    pub(crate) provider: String,
    /// When they expire, if they do.
    pub(crate) expires: Option<SystemTime>,
}

/// The identity that AWS sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallerIdentity {
    pub(crate) account: String,
    /// The ARN of the user or of the role session.
    pub(crate) arn: String,
}

impl ControlPlane {
    /// Builds the configuration from settings and the standard AWS chain; never fails for lack of credentials.
    pub(crate) async fn connect(settings: &AwsSettings) -> Self {
        Self::assemble(settings.clone(), load(settings).await, Clock::system())
    }

    pub(super) fn assemble(settings: AwsSettings, session: SdkConfig, clock: Clock) -> Self {
        let connection = ControlConnection {
            settings,
            session: RwLock::new(session),
            outdated: AtomicBool::new(false),
            skew: SkewWatch::new(clock),
        };
        Self { connection: Arc::new(connection) }
    }

    /// The region of the settings or of the AWS chain.
    pub(crate) fn region(&self) -> Option<RegionName> {
        let session = self.connection.session.read();
        session.region().and_then(|region| RegionName::parse(region.as_ref()).ok())
    }

    /// Seconds that this machine's clock is ahead of AWS's by AWS's last response; negative if it is behind.
    pub(crate) fn clock_skew(&self) -> Option<i64> {
        self.connection.skew.seconds()
    }

    /// What credentials come from, for other services than this one.
    pub(crate) async fn provider(&self) -> Option<SharedCredentialsProvider> {
        self.session().await.credentials_provider()
    }

    /// Looks for credentials now, and says which provider had them.
    pub(crate) async fn credentials(&self) -> Result<CredentialsFound, ControlError> {
        let session = self.session().await;
        let provider = session.credentials_provider().ok_or_else(diagnose::no_provider)?;
        let limit = OPERATION_LIMIT + Duration::from_secs(5);
        let found = tokio::time::timeout(limit, provider.provide_credentials()).await;
        match found {
            Ok(Ok(credentials)) => {
                let features = credentials.get_property::<Vec<AwsCredentialFeature>>();
                Ok(CredentialsFound {
                    provider: diagnose::provider_names(features.map_or(&[], Vec::as_slice)),
                    expires: credentials.expiry(),
                })
            }
            Ok(Err(error)) => Err(self.noted(diagnose::credentials(&error))),
            Err(_) => Err(diagnose::too_slow()),
        }
    }

    /// Calls `GetCallerIdentity` of STS, which every identity may do.
    pub(crate) async fn caller_identity(&self) -> Result<CallerIdentity, ControlError> {
        let session = self.session().await;
        let configuration =
            aws_sdk_sts::config::Builder::from(&session).interceptor(self.connection.skew.clone()).build();
        let response = aws_sdk_sts::Client::from_conf(configuration).get_caller_identity().send().await;
        let response = response.map_err(|error| self.failed(&error, Call::GetCallerIdentity, "STS"))?;
        Ok(CallerIdentity {
            account: response.account().unwrap_or_default().to_owned(),
            arn: response.arn().unwrap_or_default().to_owned(),
        })
    }

    /// A client for the control plane of one region.
    pub(super) async fn client(&self, region: &RegionName) -> aws_sdk_codeartifact::Client {
        let session = self.session().await;
        let configuration = aws_sdk_codeartifact::config::Builder::from(&session)
            .region(Region::new(region.as_str().to_owned()))
            .interceptor(self.connection.skew.clone())
            .build();
        aws_sdk_codeartifact::Client::from_conf(configuration)
    }

    /// The configuration to use now.
    pub(super) async fn session(&self) -> SdkConfig {
        if self.connection.outdated.swap(false, Ordering::Relaxed) {
            let session = load(&self.connection.settings).await;
            *self.connection.session.write() = session;
        }
        self.connection.session.read().clone()
    }

    pub(super) fn skew(&self) -> &SkewWatch {
        &self.connection.skew
    }

    /// The error of a failed call. If credentials caused it, the next call reads the configuration again.
    pub(super) fn failed<E>(
        &self,
        error: &aws_sdk_codeartifact::error::SdkError<E>,
        call: Call,
        subject: &str,
    ) -> ControlError
    where
        E: aws_sdk_codeartifact::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.noted(diagnose::failed_call(error, call, subject, self.clock_skew()))
    }

    fn noted(&self, error: ControlError) -> ControlError {
        if error.kind == MintErrorKind::NoCredentials {
            self.connection.outdated.store(true, Ordering::Relaxed);
        }
        error
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlPlane({:?})", self.connection.settings)
    }
}

pub(super) fn time_limits() -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_timeout(OPERATION_LIMIT)
        .operation_attempt_timeout(ATTEMPT_LIMIT)
        .connect_timeout(CONNECT_LIMIT)
        .build()
}

pub(super) fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

async fn load(settings: &AwsSettings) -> SdkConfig {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).timeout_config(time_limits()).retry_config(retries());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.as_str().to_owned()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(emulator) = &settings.emulator {
        let (id, secret) = emulator.keys;
        let keys = Credentials::new(id, secret, None, None, "emulator");
        // It is in this process: no proxy of the environment can know the way to it.
        let direct = aws_smithy_http_client::Builder::new().build_http();
        return loader.http_client(direct).endpoint_url(&emulator.endpoint).credentials_provider(keys).load().await;
    }
    let mut session = loader.load().await;
    if let Some(profile) = &settings.profile {
        session = with_profile(session, profile);
    }
    match &settings.role_arn {
        Some(role) => with_role(session, role.as_str(), settings.external_id.as_deref()).await,
        None => session,
    }
}

/// The SDK's chain looks at the environment before the profile even if a profile is selected by name; here, as
/// in the AWS command line, a profile that is named in the settings wins.
fn with_profile(session: SdkConfig, profile: &str) -> SdkConfig {
    let configuration = ProviderConfig::without_region()
        .with_region(session.region().cloned())
        .with_use_fips(session.use_fips())
        .with_use_dual_stack(session.use_dual_stack())
        .with_timeout_config(time_limits())
        .with_retry_config(retries());
    let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&configuration).build();
    session.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

async fn with_role(session: SdkConfig, role: &str, external_id: Option<&str>) -> SdkConfig {
    let mut builder = AssumeRoleProvider::builder(role).session_name(ROLE_SESSION_NAME).configure(&session);
    if let Some(external_id) = external_id {
        builder = builder.external_id(external_id);
    }
    let provider = builder.build().await;
    session.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}
