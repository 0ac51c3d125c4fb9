//! What the cloud part costs: arithmetic alone, from what was used to dollars.
//!
//! ```text
//!  export_files, export_usage ─▶ Usage ──beyond the free tier × price──▶ Costs
//!                                  └──to the month's end at this pace──▶ Usage ─▶ Costs
//! ```

/// Microseconds of a time span.
pub type Micros = i64;

/// A GB as AWS counts them for storage: 2^30 bytes.
pub const GB: f64 = (1_u64 << 30) as f64;

/// US dollars per unit, from a dated file of `api/prices/`.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub region: String,
    /// The day of the price list.
    pub as_of: String,
    pub currency: String,
    pub source: String,
    pub s3_gb_month: f64,
    /// PUT, COPY, POST and LIST requests.
    pub s3_thousand_puts: f64,
    /// GET and all other requests.
    pub s3_thousand_gets: f64,
    pub lambda_million_calls: f64,
    pub lambda_gb_second: f64,
    pub dynamodb_million_write_units: f64,
    pub dynamodb_million_read_units: f64,
}

impl Prices {
    /// The price files that come with the program.
    pub const FILES: [&str; 8] = [
        include_str!("../prices/ap-northeast-1.json"),
        include_str!("../prices/ap-southeast-1.json"),
        include_str!("../prices/eu-central-1.json"),
        include_str!("../prices/eu-west-1.json"),
        include_str!("../prices/eu-west-2.json"),
        include_str!("../prices/us-east-1.json"),
        include_str!("../prices/us-east-2.json"),
        include_str!("../prices/us-west-2.json"),
    ];

    /// The newest prices of a region; `None` where there is no file of it.
    ///
    /// # Panics
    /// When a file of the program itself cannot be read, which a test rules out.
    pub fn of(region: &str) -> Option<Self> {
        let files = Self::FILES.iter().map(|text| {
            serde_json::from_str::<Prices>(text).expect("a price file of the program is complete")
        });
        files.filter(|prices| prices.region == region).max_by(|a, b| a.as_of.cmp(&b.as_of))
    }

    /// The same for tables that are billed so.
    #[must_use]
    pub fn billed(self, tables: TableBilling) -> Self {
        match tables {
            TableBilling::OnDemand => self,
            TableBilling::Provisioned => {
                Self { dynamodb_million_write_units: 0.0, dynamodb_million_read_units: 0.0, ..self }
            }
        }
    }
}

/// How the function's tables are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableBilling {
    /// By the units that requests take.
    #[default]
    OnDemand,
    /// By the capacity that is set aside, whatever requests take of it. How much that is is not known here: it is taken to be
    /// within the 25 units of each kind that are free for ever.
    Provisioned,
}

impl TableBilling {
    pub const ALL: [TableBilling; 2] = [TableBilling::OnDemand, TableBilling::Provisioned];

    /// Reads what [`TableBilling::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|billing| billing.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            TableBilling::OnDemand => "on_demand",
            TableBilling::Provisioned => "provisioned",
        }
    }
}

/// What an account has for nothing depends on its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Account {
    /// Made before 15 July 2025, in its first twelve months.
    #[default]
    FirstYear,
    /// Older than that: what is free for ever.
    Older,
    /// Made since 15 July 2025: what is free for ever; credits pay for the rest.
    Credits,
}

impl Account {
    pub const ALL: [Account; 3] = [Account::FirstYear, Account::Older, Account::Credits];

    /// Reads what [`Account::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|account| account.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Account::FirstYear => "first_year",
            Account::Older => "older",
            Account::Credits => "credits",
        }
    }

    /// What is free in a month.
    pub const fn free(self) -> Free {
        let s3 = match self {
            Account::FirstYear => (5.0, 2_000.0, 20_000.0),
            Account::Older | Account::Credits => (0.0, 0.0, 0.0),
        };
        Free {
            s3_gb: s3.0,
            s3_puts: s3.1,
            s3_gets: s3.2,
            lambda_calls: 1_000_000.0,
            lambda_gb_seconds: 400_000.0,
        }
    }
}

/// What the estimate takes for granted where a request does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudCosts {
    pub(crate) account: Account,
    pub(crate) region: String,
    pub(crate) tables: TableBilling,
}

impl CloudCosts {
    /// `account`: `first_year`, `older` or `credits`; `tables`: `on_demand` or `provisioned`. `None` when nothing is known of
    /// one of them or of the region.
    pub fn new(account: &str, region: &str, tables: &str) -> Option<Self> {
        Prices::of(region)?;
        let (account, tables) = (Account::parse(account)?, TableBilling::parse(tables)?);
        Some(CloudCosts { account, region: region.to_owned(), tables })
    }

    /// Regions whose prices come with the program.
    pub fn regions() -> Vec<String> {
        let files = Prices::FILES.iter().filter_map(|text| serde_json::from_str::<Prices>(text).ok());
        let mut regions: Vec<String> = files.map(|prices| prices.region).collect();
        regions.dedup();
        regions
    }
}

impl Default for CloudCosts {
    fn default() -> Self {
        let (account, tables) = (Account::default(), TableBilling::default());
        CloudCosts { account, region: "eu-west-1".into(), tables }
    }
}

/// Free amounts of a month. DynamoDB's requests on demand are never among them (provisioned ones have no price:
/// [`TableBilling`]); what it stores is (25 GB), and summaries never come near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Free {
    pub s3_gb: f64,
    pub s3_puts: f64,
    pub s3_gets: f64,
    pub lambda_calls: f64,
    pub lambda_gb_seconds: f64,
}

/// A month, and how far it is.
#[derive(Debug, Clone, Copy)]
pub struct Month {
    pub begin: Micros,
    pub end: Micros,
    pub now: Micros,
}

impl Month {
    /// The share of the month that has passed, within (0, 1].
    pub fn passed(&self) -> f64 {
        let share = (self.now - self.begin) as f64 / (self.end - self.begin) as f64;
        share.clamp(f64::MIN_POSITIVE, 1.0)
    }
}

/// What was used in a month, or will have been.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// GB that are there now, or at the end.
    pub s3_gb: f64,
    /// GB kept × the share of the month that they were kept.
    pub s3_gb_months: f64,
    pub s3_puts: f64,
    pub s3_gets: f64,
    pub lambda_calls: f64,
    pub lambda_gb_seconds: f64,
    pub dynamodb_write_units: f64,
    pub dynamodb_read_units: f64,
}

impl Usage {
    /// The whole month, when requests go on at the pace so far, and storage goes on growing as it grew this month.
    pub fn at_month_end(&self, month: &Month, gb_added: f64) -> Self {
        // The first hours say nothing of a pace yet: what one day will bring is not taken for a month's every hour.
        let day = 86_400_000_000.0 / (month.end - month.begin) as f64;
        let times = (1.0 / month.passed().max(day)).max(1.0);
        let left = 1.0 - month.passed();
        let growth = gb_added * times * left;
        Self {
            s3_gb: (self.s3_gb + growth).max(0.0),
            s3_gb_months: self.s3_gb_months + (self.s3_gb + growth / 2.0).max(0.0) * left,
            s3_puts: self.s3_puts * times,
            s3_gets: self.s3_gets * times,
            lambda_calls: self.lambda_calls * times,
            lambda_gb_seconds: self.lambda_gb_seconds * times,
            dynamodb_write_units: self.dynamodb_write_units * times,
            dynamodb_read_units: self.dynamodb_read_units * times,
        }
    }

    /// What it costs beyond what is free.
    pub fn costs(&self, prices: &Prices, free: &Free) -> Costs {
        let beyond = |used: f64, free: f64| (used - free).max(0.0);
        let s3 = beyond(self.s3_gb_months, free.s3_gb) * prices.s3_gb_month
            + beyond(self.s3_puts, free.s3_puts) / 1e3 * prices.s3_thousand_puts
            + beyond(self.s3_gets, free.s3_gets) / 1e3 * prices.s3_thousand_gets;
        let lambda = beyond(self.lambda_calls, free.lambda_calls) / 1e6 * prices.lambda_million_calls
            + beyond(self.lambda_gb_seconds, free.lambda_gb_seconds) * prices.lambda_gb_second;
        let dynamodb = self.dynamodb_write_units / 1e6 * prices.dynamodb_million_write_units
            + self.dynamodb_read_units / 1e6 * prices.dynamodb_million_read_units;
        Costs { s3, lambda, dynamodb, total: s3 + lambda + dynamodb }
    }

    /// Used and free, of all that has a free amount.
    pub fn meters(&self, free: &Free) -> [(&'static str, f64, f64); 5] {
        [
            ("s3_storage_gb", self.s3_gb, free.s3_gb),
            ("s3_put_requests", self.s3_puts, free.s3_puts),
            ("s3_get_requests", self.s3_gets, free.s3_gets),
            ("lambda_invocations", self.lambda_calls, free.lambda_calls),
            ("lambda_gb_seconds", self.lambda_gb_seconds, free.lambda_gb_seconds),
        ]
    }
}

/// US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Costs {
    pub s3: f64,
    pub lambda: f64,
    pub dynamodb: f64,
    pub total: f64,
}

/// How near the end of what is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    WithinFreeTier,
    /// At least 80 % of something is used.
    Approaching,
    /// More than what is free of something is used, or a cent is to pay.
    Exceeded,
}

impl Status {
    /// Of a month that stands here.
    pub fn of(usage: &Usage, costs: &Costs, free: &Free) -> Self {
        let one = |(_, used, free): (&str, f64, f64)| match used {
            used if used > free => Status::Exceeded,
            used if used > 0.0 && used >= 0.8 * free => Status::Approaching,
            _ => Status::WithinFreeTier,
        };
        let meters = usage.meters(free).into_iter().map(one).max().unwrap_or(Status::WithinFreeTier);
        if costs.total >= 0.005 { Status::Exceeded } else { meters }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Status::WithinFreeTier => "within_free_tier",
            Status::Approaching => "approaching",
            Status::Exceeded => "exceeded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Micros = 3_600_000_000;
    const DAY: Micros = 24 * HOUR;

    fn month(now: Micros) -> Month {
        Month { begin: 0, end: 30 * DAY, now }
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "found {found}, expected {expected}");
    }

    #[test]
    fn every_price_file_is_complete_and_dated() {
        for text in Prices::FILES {
            let prices: Prices = serde_json::from_str(text).expect("complete");
            assert!(prices.as_of.parse::<jiff::civil::Date>().is_ok(), "{}", prices.as_of);
            assert_eq!((prices.currency.as_str(), Prices::of(&prices.region).is_some()), ("USD", true));
        }
        assert_eq!(Prices::of("mars-north-1"), None);
    }

    /// 4 partitions, a file each every 5 minutes of 30 days: 34,560 PUT, as many calls of 0.5 s at 256 MB, 4 write units each,
    /// and 10 GB kept for the whole month.
    fn many_small_files() -> Usage {
        Usage {
            s3_gb: 10.0,
            s3_gb_months: 10.0,
            s3_puts: 34_560.0,
            s3_gets: 0.0,
            lambda_calls: 34_560.0,
            lambda_gb_seconds: 34_560.0 * 0.5 * 0.25,
            dynamodb_write_units: 138_240.0,
            dynamodb_read_units: 0.0,
        }
    }

    /// By hand: PUT (34,560 − 2,000) × $0.005/1000 = $0.1628; storage (10 − 5) × $0.023 =
    /// $0.115; 34,560 calls and 4,320 GB-s are free; 138,240 write units × $0.705/M = $0.0974592.
    #[test]
    fn a_month_of_many_small_files_by_hand() {
        let usage = many_small_files();
        let (prices, free) = (Prices::of("eu-west-1").expect("prices"), Account::FirstYear.free());
        let costs = usage.costs(&prices, &free);
        near(costs.s3, 0.1628 + 0.115);
        near(costs.lambda, 0.0);
        near(costs.dynamodb, 0.0974592);
        near(costs.total, 0.3752592);
        assert_eq!(Status::of(&usage, &costs, &free), Status::Exceeded);
        // An account without S3's free year pays for the 2,000 PUT and 5 GB too: $0.01 + $0.115 more.
        near(usage.costs(&prices, &Account::Older.free()).total, 0.3752592 + 0.125);
    }

    /// The same month in Frankfurt, by hand: PUT 32,560 × $0.0054/1000 = $0.175824; storage 5 × $0.0245 = $0.1225; 138,240 write
    /// units × $0.7625/M = $0.105408.
    #[test]
    fn another_region_has_its_own_prices() {
        let usage = many_small_files();
        let (prices, free) = (Prices::of("eu-central-1").expect("prices"), Account::FirstYear.free());
        let costs = usage.costs(&prices, &free);
        near(costs.s3, 0.175824 + 0.1225);
        near(costs.lambda, 0.0);
        near(costs.dynamodb, 0.105408);
        near(costs.total, 0.403732);
        // 2,000 PUT and 5 GB that are not free: $0.0108 + $0.1225 more.
        near(usage.costs(&prices, &Account::Older.free()).total, 0.403732 + 0.1333);
    }

    /// The same month again: of the by-hand $0.3752592 the $0.0974592 of DynamoDB are gone. Its units alone are no reason to pay.
    #[test]
    fn provisioned_tables_cost_nothing_by_the_request() {
        let (usage, free) = (many_small_files(), Account::FirstYear.free());
        let prices = |tables| Prices::of("eu-west-1").expect("prices").billed(tables);
        let costs = usage.costs(&prices(TableBilling::Provisioned), &free);
        near(costs.dynamodb, 0.0);
        near(costs.total, 0.3752592 - 0.0974592);
        let units =
            Usage { dynamodb_write_units: 138_240.0, dynamodb_read_units: 9_000.0, ..Usage::default() };
        let status = |tables| Status::of(&units, &units.costs(&prices(tables), &free), &free);
        assert_eq!(status(TableBilling::OnDemand), Status::Exceeded);
        assert_eq!(status(TableBilling::Provisioned), Status::WithinFreeTier);
    }

    /// 3 million calls of 2 s at 256 MB: 2 M × $0.20/M = $0.40; 1,500,000 − 400,000 GB-s × $0.0000133334 = $14.66674.
    #[test]
    fn a_month_beyond_lambdas_free_tier_by_hand() {
        let usage = Usage { lambda_calls: 3e6, lambda_gb_seconds: 1.5e6, ..Usage::default() };
        let costs = usage.costs(&Prices::of("eu-west-1").expect("prices"), &Account::Credits.free());
        near(costs.lambda, 0.40 + 14.66674);
        near(costs.total, costs.lambda);
    }

    /// On day 10 of 30: 1 GB kept since the beginning, 400 requests. At the end: 1 GB-month and 1,200 requests.
    #[test]
    fn a_forecast_goes_on_at_the_pace_so_far() {
        let month = month(10 * DAY);
        let usage = Usage { s3_gb: 1.0, s3_gb_months: 1.0 / 3.0, s3_puts: 400.0, ..Usage::default() };
        let end = usage.at_month_end(&month, 0.0);
        near(end.s3_gb_months, 1.0);
        near(end.s3_puts, 1_200.0);
        // 1 GB was added in the ten days: 3 GB at the end, (1 + 3) / 2 on average over the last two thirds.
        let growing = usage.at_month_end(&month, 1.0);
        near(growing.s3_gb, 3.0);
        near(growing.s3_gb_months, 1.0 / 3.0 + 2.0 * 2.0 / 3.0);
        // An hour after the beginning: a day's worth at most is taken from it.
        near(usage.at_month_end(&self::month(HOUR), 0.0).s3_puts, 400.0 * 30.0);
        // At the end the forecast is what was used.
        assert_eq!(usage.at_month_end(&self::month(30 * DAY), 0.5), usage);
    }

    #[test]
    fn status_turns_at_eighty_percent_and_beyond_the_limit() {
        let free = Account::FirstYear.free();
        let of =
            |puts: f64| Status::of(&Usage { s3_puts: puts, ..Usage::default() }, &Costs::default(), &free);
        assert_eq!((of(1_599.0), of(1_600.0)), (Status::WithinFreeTier, Status::Approaching));
        assert_eq!((of(2_000.0), of(2_001.0)), (Status::Approaching, Status::Exceeded));
        let unused = Status::of(&Usage::default(), &Costs::default(), &Account::Older.free());
        assert_eq!(unused, Status::WithinFreeTier, "nothing used of nothing free");
        let cent = Costs { total: 0.005, ..Costs::default() };
        assert_eq!(Status::of(&Usage::default(), &cent, &free), Status::Exceeded);
    }
}
