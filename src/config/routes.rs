//! From `[[route]]` tables to complete routes.

use std::collections::HashSet;

use super::error::ConfigError;
use super::file::RouteTable;
use super::settings::RouteSettings;
use crate::control::AwsSettings;

/// The routes and the position of the default one: the one that says so, or the only one.
pub(super) fn complete(
    tables: Vec<RouteTable>,
    aws: &AwsSettings,
) -> Result<(Vec<RouteSettings>, Option<usize>), ConfigError> {
    let complain = |text: &str| Err(ConfigError::Inconsistent(text.to_owned()));
    if tables.is_empty() {
        return complain(
            "no repository is configured: give --domain and --repository (or WHEELPORT_DOMAIN and \
             WHEELPORT_REPOSITORY), or a --config file with a [[route]]; to look around without AWS, \
             run `wheelport demo`",
        );
    }
    let defaults: Vec<usize> =
        tables.iter().enumerate().filter(|(_, table)| table.default).map(|(position, _)| position).collect();
    if defaults.len() > 1 {
        return complain("more than one [[route]] says default = true");
    }
    let default_route = if tables.len() == 1 { Some(0) } else { defaults.first().copied() };
    let routes: Vec<_> = tables.into_iter().map(|table| route(table, aws)).collect::<Result<_, _>>()?;
    let mut names = HashSet::new();
    match routes.iter().find(|route| !names.insert(&route.name)) {
        Some(twice) => complain(&format!("two [[route]] tables have the name `{}`", twice.name)),
        None => Ok((routes, default_route)),
    }
}

fn route(table: RouteTable, aws: &AwsSettings) -> Result<RouteSettings, ConfigError> {
    let complain = |text: String| Err(ConfigError::Inconsistent(text));
    let label = table.name.clone().unwrap_or_else(|| "?".to_owned());
    let Some(domain) = table.domain else {
        return complain(format!(
            "route `{label}`: no domain is given (--domain, WHEELPORT_DOMAIN, or domain = \"…\")"
        ));
    };
    let Some(repository) = table.repository else {
        return complain(format!(
            "route `{label}`: no repository is given (--repository, WHEELPORT_REPOSITORY, or repository = \"…\")"
        ));
    };
    let name = table.name.unwrap_or_else(|| repository.as_str().to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return complain(format!("route `{name}`: a route's name consists of letters, digits, `-`, `_` and `.`"));
    }
    let aws = AwsSettings {
        profile: table.profile.or_else(|| aws.profile.clone()),
        region: table.region.or_else(|| aws.region.clone()),
        role_arn: table.role_arn.or_else(|| aws.role_arn.clone()),
        external_id: table.external_id.or_else(|| aws.external_id.clone()),
        token_lifetime: aws.token_lifetime,
        emulator: aws.emulator.clone(),
    };
    let publish_aws = table.publish_role_arn.map(|role| AwsSettings { role_arn: Some(role), ..aws.clone() });
    Ok(RouteSettings {
        name: name.into(),
        domain,
        domain_owner: table.domain_owner,
        repository,
        endpoint: table.endpoint,
        upload: table.upload,
        read: table.read,
        changed_files: table.changed_files,
        aws,
        publish_aws,
    })
}
