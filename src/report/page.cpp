// The frame of an HTML report; see the header.
#include "page.h"

#include "comparison.h"
#include "slmi/base/error.h"

namespace slmi::report {
namespace {

// Colours: Okabe & Ito 2008 (told apart by the colour-blind), lightened where the ground is dark.
constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1d21;--soft:#5b6470;--grid:#dfe3e8;--card:#f6f8fa;--on:#fff;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#aa4499;--c4:#b8860b;--c5:#56b4e9;--c6:#882255;--c7:#555}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--soft:#9aa4af;--grid:#333a41;--card:#1d2125;
--on:#0c0e10;--c0:#5ab4f0;--c1:#f08c4a;--c2:#3ecf9f;--c3:#d98ac8;--c4:#e0b040;--c5:#8fd0f7;--c6:#d0789f;--c7:#aaa}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 12px;padding-top:12px;border-top:1px solid var(--grid)}
h3{font-size:16px;margin:24px 0 8px}p{margin:6px 0}.soft{color:var(--soft)}
.note{background:var(--card);border-left:4px solid var(--c1);padding:8px 12px;margin:12px 0}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.card{background:var(--card);border-radius:8px;padding:12px 16px;flex:1 1 200px;overflow-wrap:anywhere}
.card b{display:block;font-size:24px;line-height:1.3}.card .soft{font-size:13px}
.scroll{overflow-x:auto;margin:8px 0 16px}
table{border-collapse:collapse;font-size:13.5px;min-width:40%}
th,td{padding:5px 10px;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top;overflow-wrap:break-word}
thead th{border-bottom:2px solid var(--soft);overflow-wrap:normal}
.num{text-align:right;font-variant-numeric:tabular-nums}td.num{white-space:nowrap}
.compare td:first-child{position:sticky;left:0;background:var(--bg);min-width:118px}
tr.heading th{padding-top:14px;color:var(--soft);font-weight:600;font-size:12.5px}
.examples td{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12px;min-width:90px;max-width:320px;
overflow-wrap:anywhere;white-space:pre-wrap}
.wide td:nth-child(n+2){overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:24px;margin:12px 0}
figure{margin:0}svg{width:100%;height:auto;display:block;max-width:900px}
svg text{fill:var(--fg);font-size:12px}svg .title{font-size:14px;font-weight:600}svg .label{fill:var(--soft)}
svg .grid{stroke:var(--grid);fill:none}svg .axis{stroke:var(--soft);fill:none}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}svg .whisker{stroke:var(--fg);fill:none;stroke-width:1.4}
svg .cell{stroke:var(--grid)}svg .on{fill:var(--on)}svg .count{fill:var(--fg)}
details{margin:8px 0}summary{cursor:pointer;font-weight:600;padding:4px 0}
@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--grid:#ccc;--card:#f4f4f4;--on:#fff}
body{max-width:none;padding:0;font-size:11px}table{font-size:10px}.scroll{overflow:visible}
h2,h3{break-after:avoid}figure,tr,.card{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)";

}  // namespace

std::string page_begin(const std::string& title, const std::string& date, const Machine& machine,
                       const std::vector<std::string>& notes) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += element("title", title) + "<style>" + kStyle + "</style></head><body>\n" + element("h1", title);
  const auto where = machine.cpu.empty() ? "" : " on " + machine.cpu;
  out += fmt::format("<p class=\"soft\">{}{}</p>\n", escape_html(or_dash(date)), escape_html(where));
  for (const auto& note : notes) out += fmt::format("<p class=\"note\">{}</p>\n", escape_html(note));
  return out;
}

std::string element(const char* tag, const std::string& text) {
  return fmt::format("<{0}>{1}</{0}>\n", tag, escape_html(text));
}

void add_table(std::string& out, const std::string& title, const Table& table, const char* css_class) {
  if (table.empty()) return;
  if (!title.empty()) out += element("h3", title);
  out += fmt::format("<div class=\"scroll {}\">", css_class) + table.html() + "</div>\n";
}

void add_plot(std::string& out, const std::string& svg) {
  if (!svg.empty()) out += "<figure>" + svg + "</figure>\n";
}

}  // namespace slmi::report
