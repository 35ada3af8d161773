//! What the status of a response means, before anything is done about it. A pure decision for `exchange`.

use http::StatusCode;

use wheelport_runtime::sabotaged;

/// What a status says, depending on which host sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusClass {
    Usable,
    /// The token is refused.
    Unauthorized,
    /// Upstream says that the page or file does not exist.
    Missing,
    /// The role may not read it.
    Denied,
    Throttled,
    ServerError,
    /// Another host refused the request to which the endpoint had redirected it.
    RefusedElsewhere,
    /// A status that this kind of request never gets.
    Unexpected,
}

impl StatusClass {
    /// Only the endpoint itself, and only to a request with the token, can say that something does not exist or may not
    /// be read.
    pub(super) fn of(status: StatusCode, with_token: bool, usable: &[StatusCode]) -> Self {
        match status.as_u16() {
            200 => Self::Usable,
            _ if usable.contains(&status) => Self::Usable,
            401 | 403 | 404 | 410 if !with_token && !sabotaged("elsewhere-404") => Self::RefusedElsewhere,
            401 => Self::Unauthorized,
            403 => Self::Denied,
            404 | 410 => Self::Missing,
            // Another host's 429 is no reason to slow down towards the endpoint.
            429 if with_token => Self::Throttled,
            429 | 500..=599 => Self::ServerError,
            _ => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_endpoint_can_say_that_something_is_absent_or_forbidden() {
        let usable = [StatusCode::NOT_ACCEPTABLE];
        for (status, from_endpoint, from_elsewhere) in [
            (200, StatusClass::Usable, StatusClass::Usable),
            (204, StatusClass::Unexpected, StatusClass::Unexpected),
            (206, StatusClass::Unexpected, StatusClass::Unexpected),
            (304, StatusClass::Unexpected, StatusClass::Unexpected),
            (400, StatusClass::Unexpected, StatusClass::Unexpected),
            (401, StatusClass::Unauthorized, StatusClass::RefusedElsewhere),
            (403, StatusClass::Denied, StatusClass::RefusedElsewhere),
            (404, StatusClass::Missing, StatusClass::RefusedElsewhere),
            (406, StatusClass::Usable, StatusClass::Usable),
            (410, StatusClass::Missing, StatusClass::RefusedElsewhere),
            (429, StatusClass::Throttled, StatusClass::ServerError),
            (500, StatusClass::ServerError, StatusClass::ServerError),
            (503, StatusClass::ServerError, StatusClass::ServerError),
        ] {
            let code = StatusCode::from_u16(status).expect("a status");
            assert_eq!(StatusClass::of(code, true, &usable), from_endpoint, "{status}");
            assert_eq!(StatusClass::of(code, false, &usable), from_elsewhere, "{status}");
        }
    }
}
