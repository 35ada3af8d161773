//! What CodeArtifact costs, as the operator says: the `[prices]` table. Nothing is assumed.

use serde::Deserialize;

/// The prices of a bill.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// For ten thousand requests.
    pub per_10k_requests: Option<Price>,
    /// For a gigabyte (a thousand million bytes) that leaves CodeArtifact.
    pub per_gb_out: Option<Price>,
    pub currency: Currency,
}

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Price(f64);

/// The name of a currency, such as `USD`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Currency(String);

/// A number that is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a price is a number of at least 0, such as 0.05")]
pub struct InvalidPrice;

/// A text that names no currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is written with three letters, such as USD")]
pub struct InvalidCurrency;

impl TryFrom<f64> for Price {
    type Error = InvalidPrice;

    fn try_from(amount: f64) -> Result<Self, InvalidPrice> {
        (amount.is_finite() && amount >= 0.0).then_some(Self(amount)).ok_or(InvalidPrice)
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidCurrency;

    fn try_from(text: String) -> Result<Self, InvalidCurrency> {
        let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then_some(Self(text)).ok_or(InvalidCurrency)
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self("USD".to_owned())
    }
}

impl Currency {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Prices {
    /// What so many requests and bytes cost; none where no price is known. What is negative earns nothing back, but
    /// counts.
    #[expect(clippy::cast_precision_loss, reason = "money is shown with two digits")]
    pub(super) fn cost(&self, requests: i64, bytes: i64) -> Option<f64> {
        let of = |price: Option<Price>, amount: f64| price.map(|Price(price)| price * amount);
        let (requests, bytes) = (requests as f64 / 10_000.0, bytes as f64 / 1e9);
        match (of(self.per_10k_requests, requests), of(self.per_gb_out, bytes)) {
            (None, None) => None,
            (requests, bytes) => Some(requests.unwrap_or(0.0) + bytes.unwrap_or(0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_for_ten_thousand_requests_and_for_a_gigabyte() {
        let prices: Prices = toml::from_str("per_10k_requests = 0.05\nper_gb_out = 0.09").expect("prices");
        let cost = prices.cost(2_000_000, 50_000_000_000).expect("a cost");
        assert!((cost - (10.0 + 4.5)).abs() < 1e-9, "{cost}");
        assert_eq!(prices.currency.as_str(), "USD");
        let only: Prices = toml::from_str("per_gb_out = 1.0").expect("a price");
        assert!((only.cost(1_000_000, -2_000_000_000).expect("a cost") + 2.0).abs() < 1e-9);
        assert_eq!(Prices::default().cost(1, 1), None, "nothing is assumed");
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in
            ["per_gb_out = -1.0", "per_gb_out = nan", "per_gb_out = inf", "currency = \"<b>\"", "per_hour = 1.0"]
        {
            assert!(toml::from_str::<Prices>(text).is_err(), "{text}");
        }
    }
}
