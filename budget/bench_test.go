package budget

import (
	"fmt"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// BenchmarkReserve finds the budgets of a call, reserves, and releases: with a thousand budgets of other
// projects beside those that count it.
func BenchmarkReserve(b *testing.B) {
	for _, n := range []int{0, 1, 3, 8} {
		b.Run(fmt.Sprint(n, "_budgets"), func(b *testing.B) {
			const limit = 1_000_000_000
			clock := &clock{at: noon}
			store := newLedger(clock, limit)
			budgets := []*logos.Budget{}
			for i := range n {
				budgets = append(budgets, &logos.Budget{ID: logos.BudgetID(i + 1), Name: "b", Unit: logos.UnitMoney, Currency: "EUR", Limit: number("1000"),
					Window: []logos.BudgetWindow{logos.WindowTotal, logos.WindowMonth, logos.WindowDay}[i%3], Hard: true,
					Each: []logos.BudgetEach{logos.EachNone, logos.EachEndUser, logos.EachProject}[i%3]})
			}
			for i := range 1000 {
				budgets = append(budgets, &logos.Budget{ID: logos.BudgetID(1000 + i), Unit: logos.UnitMoney, Currency: "EUR", Window: logos.WindowDay,
					Selector: logos.BudgetSelector{Projects: []logos.ProjectID{logos.ProjectID(10 + i)}}, Hard: true})
			}
			index := NewIndex(budgets)
			c := running(b, store, "g", time.Now)
			caller := &Caller{Team: 1, Project: 1, APIKey: 1, EndUser: "4c3648d345cf4a3999834ec0041b40d3"}
			targets := []Target{euros(b, "10"), euros(b, "8")}
			size := &Size{Input: 500, Output: 100}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				call := c.Call(index, caller, now)
				if call == nil {
					continue
				}
				if _, short := call.Reserve(b.Context(), "4c3648d3-45cf-4a39-9983-4ec0041b40d3", 0, targets, size); short != nil {
					b.Fatal(short.Error())
				}
				c.Release("4c3648d3-45cf-4a39-9983-4ec0041b40d3")
			}
		})
	}
}
