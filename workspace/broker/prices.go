package broker

import (
	"regexp"
	"strings"
)

// price is what a model costs, in millionths of a US dollar per million
// tokens: 5_000_000 is $5. Output counts thoughts. A cache price of 0 is the
// input price.
type price struct {
	input, output         int64
	cached, write, writeH int64 // read from a cache; written to it for 5 minutes, for an hour
	above                 int64 // a prompt of more tokens than this (0: any) is billed as a whole
	longIn, longOut       int64 // at so many percent of the prices before
}

// searchPrice is what the vendors take for one web search that they run.
const searchPrice = 10_000

// prices are the standard rates of the vendors' own price pages, as they stood
// in October and November 2026:
//
//	https://platform.claude.com/docs/en/about-claude/pricing
//	https://developers.openai.com/api/docs/pricing
//	https://ai.google.dev/gemini-api/docs/pricing
//
// Faster and batch tiers cost other rates and are not told apart. A model that
// is not here is counted in tokens only, and said so (KindPrice): a wrong
// price is worse than none.
var prices = map[string]price{
	"claude-fable-5-1":  claude(10_000_000, 50_000_000, 250_000),
	"claude-mythos-5-1": claude(10_000_000, 50_000_000, 250_000),
	"claude-fable-5":    claude(10_000_000, 50_000_000, 1_000_000),
	"claude-mythos-5":   claude(10_000_000, 50_000_000, 1_000_000),
	"claude-opus-5-5":   claude(4_000_000, 20_000_000, 200_000),
	"claude-opus-5":     claude(5_000_000, 25_000_000, 500_000),
	"claude-opus-4-8":   claude(5_000_000, 25_000_000, 500_000),
	"claude-opus-4-7":   claude(5_000_000, 25_000_000, 500_000),
	"claude-opus-4-6":   claude(5_000_000, 25_000_000, 500_000),
	"claude-opus-4-5":   claude(5_000_000, 25_000_000, 500_000),
	"claude-opus-4-1":   claude(15_000_000, 75_000_000, 1_500_000),
	"claude-sonnet-5-5": claude(2_000_000, 10_000_000, 100_000),
	"claude-sonnet-5":   claude(2_000_000, 10_000_000, 200_000),
	"claude-sonnet-4-6": claude(3_000_000, 15_000_000, 300_000),
	"claude-sonnet-4-5": claude(3_000_000, 15_000_000, 300_000),
	"claude-haiku-5-5":  longer(claude(100_000, 500_000, 10_000), 100_000, 500, 500),
	"claude-haiku-4-5":  claude(1_000_000, 5_000_000, 100_000),

	"gpt-6.1-sol":        gpt6(2_000_000, 10_000_000, 100_000),
	"gpt-6-astra":        gpt6(10_000_000, 50_000_000, 1_000_000),
	"gpt-6-sol":          gpt6(2_000_000, 10_000_000, 200_000),
	"gpt-6-luna":         gpt6(100_000, 500_000, 10_000),
	"gpt-5.6-sol":        gpt6(4_000_000, 20_000_000, 400_000),
	"gpt-5.6-terra":      gpt6(2_000_000, 12_000_000, 200_000),
	"gpt-5.6-luna":       gpt6(200_000, 1_200_000, 20_000),
	"gpt-5.5":            longer(price{input: 5_000_000, output: 30_000_000, cached: 500_000}, 272_000, 200, 150),
	"gpt-5.4":            longer(price{input: 2_500_000, output: 15_000_000, cached: 250_000}, 272_000, 200, 150),
	"gpt-5.4-mini":       {input: 750_000, output: 4_500_000, cached: 75_000},
	"gpt-5.4-nano":       {input: 200_000, output: 1_250_000, cached: 20_000},
	"gpt-5.3-codex":      {input: 1_750_000, output: 14_000_000, cached: 175_000},
	"gpt-5.2":            {input: 1_750_000, output: 14_000_000, cached: 175_000},
	"gpt-5.2-codex":      {input: 1_750_000, output: 14_000_000, cached: 175_000},
	"gpt-5.1":            {input: 1_250_000, output: 10_000_000, cached: 125_000},
	"gpt-5.1-codex":      {input: 1_250_000, output: 10_000_000, cached: 125_000},
	"gpt-5.1-codex-max":  {input: 1_250_000, output: 10_000_000, cached: 125_000},
	"gpt-5.1-codex-mini": {input: 250_000, output: 2_000_000, cached: 25_000},
	"gpt-5":              {input: 1_250_000, output: 10_000_000, cached: 125_000},
	"gpt-5-codex":        {input: 1_250_000, output: 10_000_000, cached: 125_000},
	"gpt-5-mini":         {input: 250_000, output: 2_000_000, cached: 25_000},
	"gpt-5-nano":         {input: 50_000, output: 400_000, cached: 5_000},

	// The three newest double on 2027-01-01, when their first price ends.
	"gemini-3.8-flash":      {input: 750_000, output: 3_750_000, cached: 75_000},
	"gemini-3.7-flash":      {input: 750_000, output: 3_750_000, cached: 75_000},
	"gemini-3.6-flash":      {input: 750_000, output: 3_750_000, cached: 75_000},
	"gemini-3.5-flash":      {input: 1_500_000, output: 9_000_000, cached: 150_000},
	"gemini-3.1-pro":        longer(price{input: 2_000_000, output: 12_000_000, cached: 200_000}, 200_000, 200, 150),
	"gemini-3-pro":          longer(price{input: 2_000_000, output: 12_000_000, cached: 200_000}, 200_000, 200, 150),
	"gemini-3-flash":        {input: 500_000, output: 3_000_000, cached: 50_000},
	"gemini-2.5-pro":        longer(price{input: 1_250_000, output: 10_000_000, cached: 125_000}, 200_000, 200, 150),
	"gemini-2.5-flash":      {input: 300_000, output: 2_500_000, cached: 30_000},
	"gemini-2.5-flash-lite": {input: 100_000, output: 400_000, cached: 10_000},
}

// claude is a price with the usual cache writes: 1.25 times the input for 5
// minutes, twice for an hour.
func claude(input, output, cached int64) price {
	return price{input: input, output: output, cached: cached, write: input / 4 * 5, writeH: input * 2}
}

// gpt6 is a price of the line since GPT-5.6: cache writes cost 1.25 times the
// input, prompts over 272,000 tokens twice the input and half more output.
func gpt6(input, output, cached int64) price {
	return longer(price{input: input, output: output, cached: cached, write: input / 4 * 5}, 272_000, 200, 150)
}

func longer(p price, above, in, out int64) price {
	p.above, p.longIn, p.longOut = above, in, out
	return p
}

// dated is how vendors name one release of a model. A further version number
// is another model with its own price.
var dated = regexp.MustCompile(`-(\d{8}|\d{4}-\d{2}-\d{2}|\d{3}|latest|preview(-\d{2}-\d{2,4})?(-customtools)?)$`)

// priceOf finds a model's price by its name, with or without a date.
func priceOf(model string) (price, bool) {
	model = strings.TrimPrefix(strings.ToLower(model), "models/")
	p, ok := prices[model]
	if !ok {
		p, ok = prices[dated.ReplaceAllString(model, "")]
	}
	return p, ok
}

// cost is what a call cost in millionths of a US dollar, rounded up, or false
// when the model's price is not known.
func cost(t tally) (int64, bool) {
	p, ok := priceOf(t.model)
	if !ok {
		return 0, false
	}
	in := t.input*p.input + t.cached*or(p.cached, p.input) + t.written*or(p.write, p.input) + t.writtenH*or(p.writeH, p.input)
	out := t.output * p.output
	if p.above > 0 && t.input+t.cached+t.written+t.writtenH > p.above {
		in, out = in*p.longIn/100, out*p.longOut/100
	}
	return (in+out+999_999)/1_000_000 + t.searches*searchPrice, true
}

func or(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return a
}
