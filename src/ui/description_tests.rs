//! What becomes of descriptions, those of attackers above all.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

fn markdown(text: &str) -> String {
    Description::new(text, Some("text/markdown; charset=UTF-8")).html
}

#[test]
fn markdown_is_rendered_and_everything_else_is_text() {
    let html =
        markdown("# Title\n\nSome *text* and `code`, see [docs](https://docs.example).\n\n| a |\n|---|\n| b |\n");
    assert!(html.contains("<h3>Title</h3>") && html.contains("<em>text</em>") && html.contains("<td>b</td>"), "{html}");
    assert!(html.contains("<a href=\"https://docs.example\" rel=\"nofollow noopener noreferrer\">docs</a>"), "{html}");
    for content_type in [None, Some("text/x-rst"), Some("text/plain"), Some("text/html"), Some("")] {
        let html = Description::new("# *T* <b>\n", content_type).html;
        assert_eq!(html, "<pre># *T* &lt;b&gt;\n</pre>", "{content_type:?}");
    }
}

#[test]
fn pictures_become_links_and_nothing_is_asked_of_another_host() {
    let html = markdown(
        "![a *b*](https://x.example/p.svg) [![badge](https://x.example/b.svg)](https://y.example) ![](rel.png)",
    );
    assert!(!html.contains("<img"), "{html}");
    assert!(
        html.contains("<a href=\"https://x.example/p.svg\" rel=\"nofollow noopener noreferrer\">a b</a>"),
        "{html}"
    );
    assert!(html.contains("<a href=\"https://y.example\" rel=\"nofollow noopener noreferrer\">badge</a>"), "{html}");
    assert!(html.ends_with("picture</p>\n"), "{html}");
}

#[test]
fn what_a_stranger_writes_does_nothing() {
    for hostile in [
        "<script>alert(1)</script>",
        "<style>body { display: none }</style>",
        "<p style=\"position: fixed\" onclick=\"alert(1)\" class=\"note\" id=\"count\">x</p>",
        "[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](data:text/html,<script>alert(1)</script>)",
        "<a href=\"javascript:alert(1)\">x</a> <a href=\"&#106;avascript:alert(1)\">y</a> <a href=\"vbscript:x\">z</a>",
        "<iframe src=\"https://x.example\"></iframe><object data=x></object><embed src=x>\
         <base href=\"https://x.example\">",
        "<form action=\"https://x.example\"><input name=q><button>go</button></form>",
        "<svg onload=alert(1)><script>alert(1)</script></svg><math><mtext><img src=x onerror=alert(1)></mtext></math>",
        "<img src=\"x\" alt=\"><script>alert(1)</script>\">",
        "<img src=\"https://x.example/\" alt='\" onmouseover=\"alert(1)'>",
        "![a\"onerror=alert(1)](https://x.example/\"onerror=alert(1))",
        "<a href=\"https://x.example/?<img src=x onerror=alert(1)>\">x</a>",
        "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
        "<meta http-equiv=refresh content=\"0;url=https://x.example\"><link rel=stylesheet href=https://x.example>",
        "<!--><script>alert(1)</script>-->",
        "</div></main><h1>Wheelport</h1>",
    ] {
        let html = markdown(hostile);
        let lower = html.to_lowercase();
        for bad in [
            "<script",
            "<style",
            "<iframe",
            "<object",
            "<embed",
            "<base",
            "<form",
            "<input",
            "<button",
            "<svg",
            "<meta",
            "<link",
            "<img",
            "style=",
            "class=",
            "id=",
            "href=\"javascript",
            "href=\"data",
            "href=\"vbscript",
            "</main",
            "<h1",
        ] {
            assert!(!lower.contains(bad), "{bad} of {hostile}: {html}");
        }
        for tag in lower.split('<').skip(1).filter_map(|tag| tag.split('>').next()) {
            let outside: String = tag.split('"').step_by(2).collect();
            assert!(!outside.contains(" on"), "a handler is in {tag} of {hostile}: {html}");
        }
    }
}

#[test]
fn text_keeps_its_direction() {
    let html = markdown("a\u{202e}b\u{2066}c");
    assert_eq!(html, "<p>abc</p>\n");
}

#[test]
fn a_long_description_is_cut_and_a_hostile_one_takes_no_time() {
    let long = Description::new(&"word\n".repeat(LONGEST), Some("text/markdown"));
    assert!(long.is_shortened && long.html.len() < 2 * LONGEST);
    let nested = |mark: &str| {
        let line = |depth: usize| [&" ".repeat(depth % 90), mark, "a\n"].concat();
        (0..20_000).map(line).collect::<Vec<_>>().concat()
    };
    let backticks = |longest: usize| (1..longest).map(|length| "`".repeat(length) + " ").collect::<Vec<_>>().concat();
    let paragraph = |n: usize| ["<p><b title=\"", &n.to_string(), "\">x</p>\n\n"].concat();
    let reference = |n: usize| ["[", &n.to_string(), "]: https://x.example\n[", &n.to_string(), "] "].concat();
    for (name, text) in [
        ("stars", "*a **b ".repeat(20_000)),
        ("brackets", "[".repeat(100_000)),
        ("brackets in lines", "[a](\n".repeat(30_000)),
        ("links", "[a](b".repeat(30_000)),
        ("quotes", "> ".repeat(50_000)),
        ("quotes in lines", format!("{}a\n", "> ".repeat(900)).repeat(100)),
        ("lists", nested("- ")),
        ("numbers", nested("1. ")),
        ("backticks", backticks(600)),
        ("entities", "&#0;&amp;&lt".repeat(15_000)),
        ("tags", "<div>".repeat(40_000)),
        ("tags in lines", "<div>\n\n".repeat(25_000)),
        ("unclosed emphasis", (0..490).map(paragraph).collect::<Vec<_>>().concat()),
        ("more of it", (0..5000).map(paragraph).collect::<Vec<_>>().concat()),
        ("open tags", "<a ".repeat(60_000)),
        ("comments", "<!-- ".repeat(40_000)),
        (
            "tables",
            format!("{}\n{}\n{}", "|a".repeat(900), "|-".repeat(900), format!("{}\n", "|b".repeat(900)).repeat(90)),
        ),
        ("short rows", format!("{}\n{}\n{}", "|a".repeat(900), "|-".repeat(900), "|\n".repeat(50_000))),
        ("rows of one letter", format!("{}\n{}\n{}", "|a".repeat(1000), "|-".repeat(1000), "a\n".repeat(90_000))),
        ("quotes within quotes", format!("{}x\n\n", ">".repeat(3900)).repeat(45)),
        ("references", (0..9000).map(reference).collect::<Vec<_>>().concat()),
        ("emphasis", "_a __b ".repeat(1300)),
        ("lone entities", "&#0;&amp;&lt".repeat(1300)),
        ("lone brackets", "[".repeat(3990)),
        ("lone links", "[a](b".repeat(1300)),
        ("lone backticks", backticks(85)),
    ] {
        let began = Instant::now();
        let html = markdown(&text);
        // Unoptimised, on a machine that does other things.
        assert!(began.elapsed() < Duration::from_secs(20), "{name} took {:?}", began.elapsed());
        assert!(html.len() < 8 << 20, "{name} became {} bytes", html.len());
    }
    let many = markdown(&"a *b* <i>c</i>\n\n".repeat(MOST_TAGS + 1));
    assert!(many.contains("<em>b</em>") && !many.contains("<i>"), "Markdown is rendered without its HTML");
    let few = markdown(&"a *b* <i>c</i>\n\n".repeat(MOST_TAGS / 2));
    assert!(few.contains("<em>b</em>") && few.contains("<i>c</i>"), "HTML is rendered, too");
}

#[test]
fn a_table_is_as_large_as_a_person_makes_one() {
    let table = |columns: usize, rows: usize| {
        let row = |cell: &str| format!("{}\n", format!("|{cell}").repeat(columns));
        markdown(&format!("{}{}{}", row("a"), row("-"), row("b").repeat(rows)))
    };
    assert!(table(5, 500).contains("<td>"));
    assert!(table(200, 200).starts_with("<pre>"), "it is shown as text");
    // Rows that are shorter than the head are filled up.
    let filled = format!("{}\n{}\n{}", "|a".repeat(1000), "|-".repeat(1000), "a\n".repeat(500));
    assert!(markdown(&filled).starts_with("<pre>"));
}
