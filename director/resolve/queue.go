package resolve

import "container/heap"

// queue is a heap of entries by due time.
type queue []*entry

func (q *queue) add(e *entry) {
	if e.index < 0 {
		heap.Push(q, e)
	}
}

func (q *queue) remove(e *entry) { heap.Remove(q, e.index) }

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is heap.Interface's.
func (q *queue) Push(x any) {
	e, ok := x.(*entry)
	if !ok {
		panic("resolve: not an entry")
	}
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop is heap.Interface's.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
